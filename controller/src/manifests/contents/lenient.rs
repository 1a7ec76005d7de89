//! Reading JSON of which only some is wanted: the rest is passed over without being kept, what is of another type is nothing.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::manifests::document::{MAX_TEXT, clip};

/// Text, clipped.
#[derive(Debug, Default)]
pub(super) struct Text(pub(super) Option<String>);

/// An object.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) Option<T>);

/// The first so many elements of a list, and how many it has.
#[derive(Debug)]
pub(super) struct List<T, const MOST: usize> {
    pub(super) kept: Vec<T>,
    pub(super) total: usize,
}

/// The first so many entries of a map, in their order.
#[derive(Debug, Default)]
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T, const MOST: usize> Default for List<T, MOST> {
    fn default() -> Self {
        Self { kept: Vec::new(), total: 0 }
    }
}

/// What is made of a value; by default nothing of any.
trait Reading<'de>: Sized {
    type Made: Default;

    fn text(_: &str) -> Self::Made {
        Self::Made::default()
    }

    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self::Made, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::Made::default())
    }

    fn object<A: MapAccess<'de>>(mut map: A) -> Result<Self::Made, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::Made::default())
    }
}

struct Any<R>(PhantomData<R>);

impl<'de, R: Reading<'de>> Visitor<'de> for Any<R> {
    type Value = R::Made;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<R::Made, E> {
        Ok(R::Made::default())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<R::Made, E> {
        Ok(R::Made::default())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<R::Made, E> {
        Ok(R::Made::default())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<R::Made, E> {
        Ok(R::Made::default())
    }

    fn visit_unit<E: Error>(self) -> Result<R::Made, E> {
        Ok(R::Made::default())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<R::Made, E> {
        Ok(R::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<R::Made, A::Error> {
        R::list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<R::Made, A::Error> {
        R::object(map)
    }
}

impl Reading<'_> for Text {
    type Made = Self;

    fn text(text: &str) -> Self {
        Self(Some(clip(text, MAX_TEXT)).filter(|text| !text.is_empty()))
    }
}

impl<'de, T: Deserialize<'de>> Reading<'de> for Object<T> {
    type Made = Self;

    fn object<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|it| Self(Some(it)))
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Reading<'de> for List<T, MOST> {
    type Made = Self;

    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut kept = Vec::new();
        while kept.len() < MOST {
            let Some(one) = list.next_element()? else { return Ok(Self { total: kept.len(), kept }) };
            kept.push(one);
        }
        let mut total = kept.len();
        while list.next_element::<IgnoredAny>()?.is_some() {
            total += 1;
        }
        Ok(Self { kept, total })
    }
}

impl<'de> Reading<'de> for Pairs {
    type Made = Self;

    fn object<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut kept = Vec::new();
        while let Some((Text(name), Text(value))) = map.next_entry()? {
            if let (Some(name), Some(value)) = (name, value)
                && kept.len() < 8
            {
                kept.push((name, value));
            }
        }
        Ok(Self(kept))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any::<Self>(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any::<Self>(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for List<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any::<Self>(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any::<Self>(PhantomData))
    }
}
