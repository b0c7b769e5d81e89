//! `tf.train.Example`: a map from feature names to bytes (`tensorflow/core/example/{example,feature}.proto`).

use super::DecodeError;
use super::wire::{Fields, field_len, put_length};

/// The single-valued bytes features of an example, borrowed from the record.
#[derive(Debug, Clone)]
pub struct Example<'a> {
    features: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Example<'a> {
    /// Reads the map; the features themselves are looked at when they are asked for.
    ///
    /// # Errors
    /// When `record` is not an example.
    pub fn parse(record: &'a [u8]) -> Result<Self, DecodeError> {
        let wrong = |e: DecodeError| DecodeError(format!("not a tf.train.Example: {e}"));
        let mut features = Vec::new();
        for field in Fields::new(record) {
            let (1, value) = field.map_err(wrong)? else {
                continue;
            };
            for field in Fields::new(value.bytes("features").map_err(wrong)?) {
                let (1, value) = field.map_err(wrong)? else {
                    continue;
                };
                let (mut key, mut feature) = (&[][..], &[][..]);
                for field in Fields::new(value.bytes("a map entry").map_err(wrong)?) {
                    match field.map_err(wrong)? {
                        (1, value) => key = value.bytes("a feature name").map_err(wrong)?,
                        (2, value) => feature = value.bytes("a feature").map_err(wrong)?,
                        _ => {}
                    }
                }
                let key = std::str::from_utf8(key)
                    .map_err(|_| wrong("a feature name is not UTF-8".into()))?;
                features.push((key, feature));
            }
        }
        Ok(Self { features })
    }

    /// The names of the features, in the record's order.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.features.iter().map(|&(name, _)| name)
    }

    /// The one value of the bytes feature `name`.
    ///
    /// # Errors
    /// When the feature is missing, is of another kind or holds another number of values than one.
    pub fn bytes(&self, name: &str) -> Result<&'a [u8], DecodeError> {
        // The last entry of a key counts, as in every protobuf map.
        let Some(&(_, feature)) = self.features.iter().rev().find(|(key, _)| *key == name) else {
            // Names are quoted: those of a damaged record may hold anything.
            let names: Vec<_> = self.names().take(8).collect();
            return Err(format!("feature '{name}' is missing (the record has {names:?})").into());
        };
        let wrong = |e: DecodeError| DecodeError(format!("feature '{name}': {e}"));
        let mut only = None;
        let mut count = 0usize;
        for field in Fields::new(feature) {
            let (1, list) = field.map_err(wrong)? else {
                return Err(wrong("is not a list of bytes".into()));
            };
            for field in Fields::new(list.bytes("the list").map_err(wrong)?) {
                if let (1, value) = field.map_err(wrong)? {
                    only = Some(value.bytes("a value").map_err(wrong)?);
                    count += 1;
                }
            }
        }
        match (only, count) {
            (Some(value), 1) => Ok(value),
            _ => Err(wrong(format!("holds {count} values instead of one").into())),
        }
    }
}

/// Writes an example of bytes features, in the order given.
pub fn encode_example(features: &[(&str, &[u8])]) -> Vec<u8> {
    let list_len = |value: &[u8]| field_len(value.len());
    let feature_len = |value: &[u8]| field_len(list_len(value));
    let entry_len =
        |name: &str, value: &[u8]| field_len(name.len()) + field_len(feature_len(value));
    let total = features
        .iter()
        .map(|(name, value)| field_len(entry_len(name, value)))
        .sum();
    let mut out = Vec::with_capacity(field_len(total));
    put_length(&mut out, 1, total);
    for (name, value) in features {
        put_length(&mut out, 1, entry_len(name, value));
        put_length(&mut out, 1, name.len());
        out.extend_from_slice(name.as_bytes());
        put_length(&mut out, 2, feature_len(value));
        put_length(&mut out, 1, list_len(value));
        put_length(&mut out, 1, value.len());
        out.extend_from_slice(value);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use tfrecord::protobuf::{BytesList, Feature, FloatList, feature::Kind};

    fn bytes(values: &[&[u8]]) -> Feature {
        Feature {
            kind: Some(Kind::BytesList(BytesList {
                value: values.iter().map(|v| v.to_vec()).collect(),
            })),
        }
    }

    #[test]
    fn agrees_with_the_generated_types() {
        let long = vec![7u8; 40_000];
        let ours = encode_example(&[("rain", b"abc"), ("depth", &long)]);
        let theirs = tfrecord::Example::decode(ours.as_slice()).unwrap();
        let map = &theirs.features.as_ref().unwrap().feature;
        assert_eq!(map.len(), 2);
        assert_eq!(map["rain"], bytes(&[b"abc"]));
        assert_eq!(map["depth"], bytes(&[&long]));

        let encoded = theirs.encode_to_vec();
        let ours = Example::parse(&encoded).unwrap();
        assert_eq!(ours.bytes("rain").unwrap(), b"abc");
        assert_eq!(ours.bytes("depth").unwrap(), long);
    }

    #[test]
    fn kinds_and_counts_are_checked() {
        let floats = Feature {
            kind: Some(Kind::FloatList(FloatList { value: vec![1.0] })),
        };
        let example: tfrecord::Example = [
            ("floats".to_owned(), floats),
            ("two".to_owned(), bytes(&[b"a", b"b"])),
            ("none".to_owned(), bytes(&[])),
        ]
        .into_iter()
        .collect();
        let encoded = example.encode_to_vec();
        let example = Example::parse(&encoded).unwrap();
        let message = |name| example.bytes(name).unwrap_err().to_string();
        assert_eq!(
            message("floats"),
            "feature 'floats': is not a list of bytes"
        );
        assert_eq!(
            message("two"),
            "feature 'two': holds 2 values instead of one"
        );
        assert_eq!(
            message("none"),
            "feature 'none': holds 0 values instead of one"
        );
        assert!(
            message("rain").starts_with("feature 'rain' is missing"),
            "{}",
            message("rain")
        );
    }
}
