//! Bars as SVG, without a script or a font of its own.

use std::fmt::Write as _;

/// One bar, and how far the runs lay apart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bar {
    /// Which server, by its place in the legend.
    pub(crate) series: usize,
    pub(crate) value: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    pub(crate) label: String,
}

/// Groups of bars; in each group the longest fills the width.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    title: String,
    series: Vec<String>,
    groups: Vec<(String, Vec<Bar>)>,
}

/// Colours that people with any kind of sight tell apart (Okabe and Ito).
const COLOURS: [&str; 4] = ["#0072b2", "#e69f00", "#009e73", "#999999"];
const LEFT: f64 = 190.0;
const WIDTH: f64 = 430.0;
const TOTAL: f64 = 760.0;
const BAR: f64 = 15.0;
const GAP: f64 = 10.0;
const TOP: f64 = 64.0;

impl Chart {
    pub(crate) fn new(title: String, series: Vec<String>) -> Self {
        Self { title, series, groups: Vec::new() }
    }

    /// Adds a group, unless it is empty.
    pub(crate) fn group(&mut self, name: &str, bars: Vec<Bar>) {
        if !bars.is_empty() {
            self.groups.push((name.to_owned(), bars));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The picture.
    pub(crate) fn svg(&self) -> String {
        let bars: usize = self.groups.iter().map(|(_, bars)| bars.len()).sum();
        let height = TOP + bars as f64 * BAR + self.groups.len() as f64 * GAP + 12.0;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {TOTAL} {height}\" width=\"{TOTAL}\" height=\"{height}\" \
             font-family=\"system-ui, sans-serif\" font-size=\"12\" role=\"img\" aria-label=\"{0}\">\n\
             <title>{0}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <text x=\"12\" y=\"24\" font-size=\"16\" font-weight=\"600\" fill=\"#1a1a1a\">{0}</text>\n",
            escaped(&self.title)
        );
        let mut x = LEFT;
        for (number, name) in self.series.iter().enumerate() {
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"38\" width=\"11\" height=\"11\" fill=\"{}\"/><text x=\"{}\" y=\"48\" fill=\"#1a1a1a\">{}</text>",
                COLOURS[number % COLOURS.len()],
                x + 16.0,
                escaped(name)
            );
            x += 40.0 + name.len() as f64 * 7.0;
        }
        let mut y = TOP;
        for (name, bars) in &self.groups {
            let longest = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
            let middle = y + bars.len() as f64 * BAR / 2.0 + 4.0;
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\" fill=\"#1a1a1a\">{}</text>",
                LEFT - 8.0,
                escaped(name)
            );
            for bar in bars {
                draw(&mut svg, bar, longest, y);
                y += BAR;
            }
            y += GAP;
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn draw(svg: &mut String, bar: &Bar, longest: f64, y: f64) {
    let at = |value: f64| (value / longest).clamp(0.0, 1.15) * WIDTH;
    let (width, middle) = (at(bar.value).max(1.0), y + BAR / 2.0);
    let _ = writeln!(
        svg,
        "<rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{}\"/>",
        y + 1.0,
        BAR - 2.0,
        COLOURS[bar.series % COLOURS.len()],
    );
    if bar.most > bar.least {
        let _ = writeln!(
            svg,
            "<path d=\"M{:.1} {middle:.1}H{:.1}\" stroke=\"#1a1a1a\" stroke-width=\"1.5\"/>",
            LEFT + at(bar.least),
            LEFT + at(bar.most)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"11\" fill=\"#1a1a1a\">{}</text>",
        LEFT + width.max(at(bar.most)) + 5.0,
        middle + 4.0,
        escaped(&bar.label)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(series: usize, value: f64) -> Bar {
        Bar { series, value, least: value * 0.9, most: value * 1.1, label: format!("{value} /s") }
    }

    #[test]
    fn the_longest_bar_of_a_group_fills_the_width() {
        let mut chart = Chart::new("Pulls <1>".into(), vec!["ours".into(), "theirs".into()]);
        chart.group("none", Vec::new());
        assert!(chart.is_empty());
        chart.group("pull-4k", vec![bar(0, 50.0), bar(1, 100.0)]);
        chart.group("pull-1g", vec![bar(1, 2.0)]);
        let svg = chart.svg();
        assert_eq!(svg.matches("width=\"430.0\"").count(), 2, "{svg}");
        assert_eq!(svg.matches("width=\"215.0\"").count(), 1, "{svg}");
        assert!(svg.contains("Pulls &lt;1&gt;") && !svg.contains("<1>"), "{svg}");
        assert!(svg.ends_with("</svg>\n"));
    }
}
