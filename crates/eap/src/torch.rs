//! EAP-IG's `.pt` graphs: a dictionary of numbers, names and tensors in the format of `torch.save`.
//!
//! Nothing a file asks for is ever called: its pickle is read as a tree, and only the parts of that tree that a graph has
//! are looked at.

use std::{collections::BTreeMap, io::Cursor};

use anyhow::{Context, bail, ensure};
use candle_core::pickle::{Object, Stack};

use crate::zip;

/// A value of the dictionary.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number.
    Int(i64),
    /// A truth value.
    Bool(bool),
    /// Names.
    Names(Vec<String>),
    /// Values by name.
    Dict(Vec<(String, Value)>),
    /// 32-bit floats of a shape.
    Floats(Vec<usize>, Vec<f32>),
    /// Truth values of a shape.
    Bools(Vec<usize>, Vec<bool>),
    /// What a graph does not need.
    Other,
}

/// Reads the dictionary of a file.
pub fn read(bytes: &[u8]) -> anyhow::Result<BTreeMap<String, Value>> {
    let entries = zip::read(bytes)?;
    let pickle = entries.iter().find(|(name, _)| name.ends_with("/data.pkl"));
    let (name, pickle) = pickle.context("there is no data.pkl in it: not a file of torch.save")?;
    let (prefix, pickle) = (name.trim_end_matches("data.pkl").to_owned(), *pickle);
    let little = entries
        .get(&format!("{prefix}byteorder"))
        .is_none_or(|order| *order == b"little");
    ensure!(little, "its numbers are stored big end first");
    let mut stack = Stack::empty();
    stack
        .read_loop(&mut Cursor::new(pickle))
        .context("its pickle is none of torch.save")?;
    let object = stack
        .finalize()
        .context("its pickle is none of torch.save")?;
    let reader = Reader { entries, prefix };
    match reader.value(object)? {
        Value::Dict(pairs) => Ok(pairs.into_iter().collect()),
        _ => bail!("it holds no dictionary"),
    }
}

struct Reader<'a> {
    entries: BTreeMap<String, &'a [u8]>,
    prefix: String,
}

impl Reader<'_> {
    fn value(&self, object: Object) -> anyhow::Result<Value> {
        Ok(match object {
            Object::Int(number) => Value::Int(number.into()),
            Object::Long(number) => Value::Int(number),
            Object::Bool(value) => Value::Bool(value),
            Object::List(items) => {
                let names = items
                    .into_iter()
                    .map(Object::unicode)
                    .collect::<Result<Vec<_>, _>>();
                names.map_or(Value::Other, Value::Names)
            }
            Object::Dict(pairs) => {
                let pair = |(key, value): (Object, Object)| {
                    let key = key
                        .unicode()
                        .ok()
                        .context("a key of its dictionary is no text")?;
                    Ok((key, self.value(value)?))
                };
                // Pairs come off the reader's stack last first.
                Value::Dict(
                    pairs
                        .into_iter()
                        .rev()
                        .map(pair)
                        .collect::<anyhow::Result<_>>()?,
                )
            }
            Object::Reduce { callable, args } => self.tensor(*callable, *args)?,
            _ => Value::Other,
        })
    }

    /// `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, …)` as data.
    #[expect(
        clippy::too_many_lines,
        reason = "one argument after the other, each with its refusal"
    )]
    fn tensor(&self, callable: Object, args: Object) -> anyhow::Result<Value> {
        let Ok((module, class)) = callable.class() else {
            return Ok(Value::Other);
        };
        if (module.as_str(), class.as_str()) != ("torch._utils", "_rebuild_tensor_v2") {
            return Ok(Value::Other);
        }
        let unknown = "a tensor in it is described in an unknown way";
        let args = args.tuple().ok().context(unknown)?;
        let [storage, offset, size, stride, ..] = args.as_slice() else {
            bail!(unknown);
        };
        let (kind, key) = storage_of(storage.clone()).context(unknown)?;
        let (size, stride) = (
            numbers(size).context(unknown)?,
            numbers(stride).context(unknown)?,
        );
        let Object::Int(0) = offset else {
            bail!("a tensor in it starts inside its storage");
        };
        let adjacent: Vec<usize> = (0..size.len())
            .map(|d| size[d + 1..].iter().product())
            .collect();
        ensure!(
            stride == adjacent,
            "a tensor in it is not stored row by row"
        );
        let n = size
            .iter()
            .try_fold(1_usize, |n, &d| n.checked_mul(d))
            .context(unknown)?;
        let name = format!("{}data/{key}", self.prefix);
        let data = *self
            .entries
            .get(&name)
            .with_context(|| format!("{name} is missing"))?;
        match kind.as_str() {
            "FloatStorage" => {
                let data = data
                    .get(..n.saturating_mul(4))
                    .with_context(|| format!("{name} is short"))?;
                let floats = data
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|&bytes| f32::from_le_bytes(bytes));
                Ok(Value::Floats(size, floats.collect()))
            }
            "DoubleStorage" => {
                let data = data
                    .get(..n.saturating_mul(8))
                    .with_context(|| format!("{name} is short"))?;
                let floats = data
                    .as_chunks::<8>()
                    .0
                    .iter()
                    .map(|&bytes| f64::from_le_bytes(bytes) as f32);
                Ok(Value::Floats(size, floats.collect()))
            }
            "BoolStorage" => {
                let data = data.get(..n).with_context(|| format!("{name} is short"))?;
                Ok(Value::Bools(
                    size,
                    data.iter().map(|&byte| byte != 0).collect(),
                ))
            }
            _ => Ok(Value::Other),
        }
    }
}

/// Class and key of `('storage', torch.FloatStorage, '0', 'cpu', n)`.
fn storage_of(object: Object) -> Option<(String, String)> {
    let Object::PersistentLoad(id) = object else {
        return None;
    };
    let mut parts = id.tuple().ok()?.into_iter().skip(1);
    let (_, class) = parts.next()?.class().ok()?;
    Some((class, parts.next()?.unicode().ok()?))
}

fn numbers(object: &Object) -> Option<Vec<usize>> {
    let items = object.clone().tuple().ok()?;
    items
        .into_iter()
        .map(|item| usize::try_from(item.int_or_long().ok()?).ok())
        .collect()
}

/// The bytes of a file that `torch.load` reads, `weights_only` or not.
pub fn write(values: &[(String, Value)]) -> Vec<u8> {
    let mut pickle = Pickle {
        bytes: vec![0x80, 2],
        storages: Vec::new(),
    };
    pickle.value(&Value::Dict(values.to_vec()));
    pickle.bytes.push(b'.');
    let mut entries = vec![
        ("graph/data.pkl".to_owned(), pickle.bytes),
        ("graph/byteorder".to_owned(), b"little".to_vec()),
    ];
    for (number, storage) in pickle.storages.into_iter().enumerate() {
        entries.push((format!("graph/data/{number}"), storage));
    }
    entries.push(("graph/version".to_owned(), b"3\n".to_vec()));
    zip::write(&entries)
}

/// A pickle of protocol 2 being written.
struct Pickle {
    bytes: Vec<u8>,
    storages: Vec<Vec<u8>>,
}

impl Pickle {
    fn value(&mut self, value: &Value) {
        match value {
            Value::Int(number) => self.int(*number),
            Value::Bool(value) => self.bytes.push(if *value { 0x88 } else { 0x89 }),
            Value::Names(names) => {
                self.bytes.extend(b"](");
                for name in names {
                    self.text(name);
                }
                self.bytes.push(b'e');
            }
            Value::Dict(pairs) => {
                self.bytes.extend(b"}(");
                for (key, value) in pairs {
                    self.text(key);
                    self.value(value);
                }
                self.bytes.push(b'u');
            }
            Value::Floats(size, values) => {
                let data = values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                self.tensor("FloatStorage", size, data);
            }
            Value::Bools(size, values) => {
                self.tensor(
                    "BoolStorage",
                    size,
                    values.iter().map(|&value| u8::from(value)).collect(),
                );
            }
            Value::Other => self.bytes.push(b'N'),
        }
    }

    fn int(&mut self, number: i64) {
        self.bytes.push(b'J');
        self.bytes.extend((number as i32).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.bytes.push(b'X');
        self.bytes.extend((text.len() as u32).to_le_bytes());
        self.bytes.extend(text.as_bytes());
    }

    fn global(&mut self, module: &str, name: &str) {
        self.bytes
            .extend(format!("c{module}\n{name}\n").into_bytes());
    }

    fn numbers(&mut self, numbers: &[usize]) {
        self.bytes.push(b'(');
        for &number in numbers {
            self.int(number as i64);
        }
        self.bytes.push(b't');
    }

    fn tensor(&mut self, storage: &str, size: &[usize], data: Vec<u8>) {
        let n: usize = size.iter().product();
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.bytes.extend(b"((");
        self.text("storage");
        self.global("torch", storage);
        self.text(&self.storages.len().to_string());
        self.text("cpu");
        self.int(n as i64);
        self.bytes.extend(b"tQ");
        self.int(0);
        self.numbers(size);
        let stride: Vec<usize> = (0..size.len())
            .map(|d| size[d + 1..].iter().product())
            .collect();
        self.numbers(&stride);
        self.bytes.push(0x89);
        self.global("collections", "OrderedDict");
        self.bytes.extend(b")RtR");
        self.storages.push(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let values = vec![
            (
                "cfg".to_owned(),
                Value::Dict(vec![
                    ("n_layers".to_owned(), Value::Int(3)),
                    ("parallel".to_owned(), Value::Bool(false)),
                ]),
            ),
            (
                "names".to_owned(),
                Value::Names(vec!["input".into(), "a0.h1".into()]),
            ),
            (
                "scores".to_owned(),
                Value::Floats(vec![2, 3], vec![0.5, -1.0, 2.0, 0.0, 3.5, 1e-20]),
            ),
            (
                "kept".to_owned(),
                Value::Bools(vec![3], vec![true, false, true]),
            ),
        ];
        let read = read(&write(&values)).unwrap();
        assert_eq!(read, values.into_iter().collect());
    }

    #[test]
    fn a_call_in_a_pickle_is_never_made() {
        // os.system('true') where a value should be.
        let mut pickle =
            b"\x80\x02}(X\x01\0\0\0acos\nsystem\nX\x04\0\0\0true\x85RX\x01\0\0\0bK\x07u.".to_vec();
        let file = |pickle: Vec<u8>| zip::write(&[("x/data.pkl".to_owned(), pickle)]);
        let read_values = read(&file(pickle.clone())).unwrap();
        assert_eq!(read_values["a"], Value::Other);
        assert_eq!(read_values["b"], Value::Int(7));
        pickle.truncate(20);
        assert!(read(&file(pickle)).is_err());
    }
}
