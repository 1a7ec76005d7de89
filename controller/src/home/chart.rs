//! Charts: numbers as shapes of an SVG. Beside each stands a table of the same numbers.

/// Width and height of the chart of days, and where its bars stand.
const WIDTH: i64 = 640;
const TOP: i64 = 8;
const FLOOR: i64 = 120;

/// A bar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bar {
    pub(crate) x: i64,
    pub(crate) y: i64,
    pub(crate) width: i64,
    pub(crate) height: i64,
    /// The class that colours it.
    pub(crate) class: &'static str,
    /// What it stands for.
    pub(crate) label: String,
    pub(crate) value: i64,
}

/// Bars that stand side by side, the highest as high as there is room.
pub(crate) fn columns(values: impl ExactSizeIterator<Item = (String, i64)>) -> Vec<Bar> {
    let all: Vec<(String, i64)> = values.collect();
    let most = all.iter().map(|(_, value)| *value).max().unwrap_or_default().max(1);
    let step = WIDTH / i64::try_from(all.len().max(1)).unwrap_or(1);
    let bar = |(n, (label, value)): (usize, (String, i64))| {
        // What is not nothing is seen.
        let height = scaled(value, most, FLOOR - TOP).max(i64::from(value > 0) * 2);
        let x = i64::try_from(n).unwrap_or_default() * step + 2;
        Bar { x, y: FLOOR - height, width: (step - 4).max(1), height, class: "b1", label, value }
    };
    all.into_iter().enumerate().map(bar).collect()
}

/// Parts of a whole, one beside the other.
pub(crate) fn parts(values: &[(String, i64)]) -> Vec<Bar> {
    const CLASSES: [&str; 5] = ["b1", "b2", "b3", "b4", "b5"];
    let total = values.iter().map(|(_, value)| value.max(&0)).sum::<i64>().max(1);
    let (mut bars, mut seen) = (Vec::new(), 0);
    for (n, (label, value)) in values.iter().enumerate() {
        let x = scaled(seen, total, WIDTH);
        seen += value.max(&0);
        // A slit between neighbours, so that colour is not all that tells them apart.
        let width = (scaled(seen, total, WIDTH) - x - 2).max(1);
        let class = CLASSES.get(n.min(4)).copied().unwrap_or("b5");
        bars.push(Bar { x, y: 0, width, height: 20, class, label: label.clone(), value: *value });
    }
    bars
}

/// `value` of `most`, on a line of that length.
fn scaled(value: i64, most: i64, length: i64) -> i64 {
    let exact = i128::from(value.max(0)) * i128::from(length) / i128::from(most.max(1));
    i64::try_from(exact).unwrap_or(length).min(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fit_and_what_is_little_is_seen() {
        let bars = columns([("a".to_owned(), 0), ("b".to_owned(), 1), ("c".to_owned(), i64::MAX)].into_iter());
        assert_eq!(bars.iter().map(|bar| bar.height).collect::<Vec<_>>(), [0, 2, FLOOR - TOP]);
        assert!(bars.iter().all(|bar| bar.y >= TOP && bar.x + bar.width <= WIDTH));
        assert!(columns(std::iter::empty()).is_empty());
        let parts = parts(&[("web".to_owned(), 75), ("ops".to_owned(), 25), ("bare".to_owned(), 0)]);
        assert_eq!((parts[0].x, parts[0].width, parts[1].x, parts[1].width), (0, 478, 480, 158));
        assert!(parts.iter().all(|bar| bar.x + bar.width <= WIDTH + 1));
    }
}
