//! The instructions of a pickle.

use super::input::{Input, long, whole};
use super::{Id, Name, Pickle, Result, Storage, Tensor, Value};
use std::collections::BTreeMap;

/// The stack machine.
pub(super) struct Machine<'a> {
    input: Input<'a>,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack that were marked.
    marks: Vec<usize>,
    memo: BTreeMap<u64, Id>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            input: Input::new(bytes),
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: BTreeMap::new(),
        }
    }

    pub(super) fn run(mut self) -> Result<Pickle> {
        loop {
            let op = self.input.byte()?;
            if op == b'.' {
                let root = self.pop()?;
                return Ok(Pickle {
                    values: self.values,
                    root,
                    length: self.input.at,
                });
            }
            let known = self.literal(op)? || self.container(op)? || self.memory(op)?;
            if !known && !self.name(op)? {
                return Err(format!(
                    "its pickle has instruction 0x{op:02x}, which does more than hold data: nothing was run"
                ));
            }
        }
    }

    /// Numbers and texts.
    fn literal(&mut self, op: u8) -> Result<bool> {
        let value = match op {
            b'N' => Value::None,
            0x88 | 0x89 => Value::Bool(op == 0x88),
            b'J' => Value::Int(i32::from_le_bytes(self.input.array()?).into()),
            b'K' => Value::Int(self.input.byte()?.into()),
            b'M' => Value::Int(u16::from_le_bytes(self.input.array()?).into()),
            b'I' | b'L' => whole(self.input.line()?)?,
            0x8a => {
                let n = self.input.byte()?;
                long(self.input.take(n.into())?)?
            }
            b'G' => Value::Float(f64::from_be_bytes(self.input.array()?)),
            b'X' | b'T' | b'B' => {
                let n = u32::from_le_bytes(self.input.array()?);
                self.input.text(n.into())?
            }
            0x8c | b'U' | b'C' => {
                let n = self.input.byte()?;
                self.input.text(n.into())?
            }
            0x8d | 0x8e => {
                let n = u64::from_le_bytes(self.input.array()?);
                self.input.text(n)?
            }
            _ => return Ok(false),
        };
        self.push(value);
        Ok(true)
    }

    /// Tuples, lists and dictionaries.
    fn container(&mut self, op: u8) -> Result<bool> {
        match op {
            b'(' => self.marks.push(self.stack.len()),
            b')' => self.push(Value::Tuple(Vec::new())),
            b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            0x85..=0x87 => {
                let n = usize::from(op - 0x84);
                let mut items = (0..n).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
                items.reverse();
                self.push(Value::Tuple(items));
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push(Value::Tuple(items));
            }
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Value::List(items));
            }
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dict(pairs(&items)?));
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(&[item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.extend(&items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.insert(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.insert(&items)?;
            }
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Values referred to again, and what only helps a reader along.
    fn memory(&mut self, op: u8) -> Result<bool> {
        match op {
            0x80 => {
                let version = self.input.byte()?;
                if version > 5 {
                    return Err(format!(
                        "its pickle is of version {version}, 5 is the last one known"
                    ));
                }
            }
            0x95 => drop(self.input.take(8)?),
            b'q' | b'r' | b'p' | 0x94 => {
                let place = self.memo_place(op)?;
                let top = self.top()?;
                self.memo.insert(place, top);
            }
            b'h' | b'j' | b'g' => {
                let place = self.memo_place(op)?;
                let found = self.memo.get(&place).copied();
                self.stack
                    .push(found.ok_or("its pickle refers to a value it never had")?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn memo_place(&mut self, op: u8) -> Result<u64> {
        Ok(match op {
            b'q' | b'h' => self.input.byte()?.into(),
            b'r' | b'j' => u32::from_le_bytes(self.input.array()?).into(),
            0x94 => self.memo.len() as u64,
            _ => match whole(self.input.line()?)? {
                Value::Int(place) if place >= 0 => place as u64,
                _ => return Err("its pickle refers to a value it never had".into()),
            },
        })
    }

    /// Names, and what is made of them.
    fn name(&mut self, op: u8) -> Result<bool> {
        match op {
            b'c' => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                let name = Name::of(
                    &String::from_utf8_lossy(module),
                    &String::from_utf8_lossy(name),
                )?;
                self.push(Value::Name(name));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) =
                    (&self.values[module], &self.values[name])
                else {
                    return Err("its pickle names something without a name".into());
                };
                let name = Name::of(module, name)?;
                self.push(Value::Name(name));
            }
            b'R' | 0x81 => self.make()?,
            // The attributes of a state dict (`_metadata`): nothing of the tensors.
            b'b' => {
                self.pop()?;
                let top = self.top()?;
                if !matches!(self.values[top], Value::Dict(_)) {
                    return Err(
                        "its pickle sets attributes of something that is no dictionary".into(),
                    );
                }
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Value::Storage(storage));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What a name and its arguments stand for.
    fn make(&mut self) -> Result<()> {
        let (arguments, name) = (self.pop()?, self.pop()?);
        let Value::Tuple(arguments) = self.values[arguments].clone() else {
            return Err("its pickle makes something out of no arguments".into());
        };
        let Value::Name(name) = self.values[name] else {
            return Err("its pickle makes something that has no name".into());
        };
        let value = match (name, arguments.as_slice()) {
            (Name::OrderedDict, []) => Value::Dict(Vec::new()),
            (Name::OrderedDict, [items]) => Value::Dict(self.ordered(*items)?),
            (Name::Tensor, [storage, offset, shape, strides, ..]) => {
                Value::Tensor(self.tensor(*storage, *offset, *shape, *strides)?)
            }
            (Name::Parameter, [tensor, ..]) => self.values[*tensor].clone(),
            (Name::Size, [sizes]) => self.values[*sizes].clone(),
            _ => {
                return Err(format!(
                    "its pickle makes a {name:?} of {} arguments",
                    arguments.len()
                ));
            }
        };
        self.push(value);
        Ok(())
    }

    /// `OrderedDict([(key, value), …])`.
    fn ordered(&self, items: Id) -> Result<Vec<(Id, Id)>> {
        let (Value::List(items) | Value::Tuple(items)) = &self.values[items] else {
            return Err("its pickle has a dictionary made of no list".into());
        };
        let pair = |item: &Id| match &self.values[*item] {
            Value::Tuple(pair) | Value::List(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
            _ => Err("its pickle has a dictionary made of no pairs".into()),
        };
        items.iter().map(pair).collect()
    }

    /// `("storage", class, key, location, numbers)`.
    fn storage(&self, id: Id) -> Result<Storage> {
        let malformed = || "its pickle refers to something that is no storage".to_owned();
        let Value::Tuple(parts) = &self.values[id] else {
            return Err(malformed());
        };
        let parts: Vec<&Value> = parts.iter().map(|&part| &self.values[part]).collect();
        match parts.as_slice() {
            [
                Value::Text(tag),
                Value::Name(Name::Storage(scalar)),
                Value::Text(key),
                _,
                Value::Int(n),
                rest @ ..,
            ] if tag == "storage" && rest.iter().all(|part| **part == Value::None) => Ok(Storage {
                scalar: *scalar,
                key: key.clone(),
                n: usize::try_from(*n).map_err(|_| malformed())?,
            }),
            _ => Err(malformed()),
        }
    }

    fn tensor(&self, storage: Id, offset: Id, shape: Id, strides: Id) -> Result<Tensor> {
        let (Value::Storage(storage), Value::Int(offset)) =
            (&self.values[storage], &self.values[offset])
        else {
            return Err("its pickle has a tensor without a storage".into());
        };
        Ok(Tensor {
            storage: storage.clone(),
            offset: usize::try_from(*offset).map_err(|_| "a tensor begins before its storage")?,
            shape: self.sizes(shape)?,
            strides: self.sizes(strides)?,
        })
    }

    fn sizes(&self, id: Id) -> Result<Vec<usize>> {
        let malformed = || "its pickle has a tensor whose shape is no list of sizes".to_owned();
        let (Value::Tuple(sizes) | Value::List(sizes)) = &self.values[id] else {
            return Err(malformed());
        };
        let size = |id: &Id| match self.values[*id] {
            Value::Int(size) => usize::try_from(size).map_err(|_| malformed()),
            _ => Err(malformed()),
        };
        sizes.iter().map(size).collect()
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn top(&self) -> Result<Id> {
        self.stack.last().copied().ok_or_else(empty)
    }

    fn pop(&mut self) -> Result<Id> {
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return Err(empty());
        }
        self.stack.pop().ok_or_else(empty)
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(empty)?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn extend(&mut self, items: &[Id]) -> Result<()> {
        let top = self.top()?;
        match &mut self.values[top] {
            Value::List(list) => {
                list.extend_from_slice(items);
                Ok(())
            }
            _ => Err("its pickle appends to something that is no list".into()),
        }
    }

    fn insert(&mut self, items: &[Id]) -> Result<()> {
        let top = self.top()?;
        match &mut self.values[top] {
            Value::Dict(entries) => {
                entries.extend(pairs(items)?);
                Ok(())
            }
            _ => Err("its pickle sets items of something that is no dictionary".into()),
        }
    }
}

fn empty() -> String {
    "its pickle takes from an empty stack".into()
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("its pickle has a key without a value".into());
    }
    Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
}
