//! An interpreter for pickles that runs no code: classes and functions are only
//! names, the results of a few functions of PyTorch are built in, and a call of
//! any other is refused.
//!
//! Values are in one list and refer to each other by index, so that cycles and
//! deep nesting are harmless. Each byte read creates at most one value.

use super::storage::{Result, Storage, View};
use crate::weights::dtype::ValueType;
use std::collections::HashMap;

/// Largest number of steps of a pickle. Each creates and stores at most one
/// value.
const MAX_STEPS: usize = 1 << 22;

/// Largest number of named values of a dictionary that are read.
pub(super) const MAX_NAMED: usize = 1 << 16;

/// Longest name of a class or a function, in bytes.
const MAX_NAME: usize = 256;

/// Largest number of dimensions of a tensor.
const MAX_RANK: usize = 8;

/// Functions whose results are ignored: numbers, paths and settings that
/// training saves with the weights.
const IGNORED: [&str; 14] = [
    "_codecs.encode",
    "argparse.Namespace",
    "builtins.frozenset",
    "builtins.set",
    "__builtin__.set",
    "copy_reg._reconstructor",
    "copyreg._reconstructor",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",
    "torch.device",
];

/// Index of a value.
pub(super) type Id = usize;

/// A value, as far as it is needed for weights.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Int(i64),
    Text(Box<str>),
    /// A list, a tuple, a set.
    List(Vec<Id>),
    /// Keys and values, in order.
    Dict(Vec<(Id, Id)>),
    /// Module and name of a class or function.
    Global(Box<str>),
    Storage(Box<Storage>),
    Tensor(Box<View>),
    /// An instance of a class, with its attributes.
    Instance(Option<Id>),
    /// Anything else.
    Other,
}

/// The object in a pickle.
#[derive(Debug)]
pub(super) struct Object {
    values: Vec<Value>,
    root: Id,
    len: usize,
    storages: HashMap<String, Storage>,
}

impl Object {
    /// Length of the pickle in bytes.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The top-level value.
    pub(super) const fn root(&self) -> Id {
        self.root
    }

    /// A value.
    pub(super) fn value(&self, id: Id) -> &Value {
        &self.values[id]
    }

    /// The items of a list.
    pub(super) fn items(&self, id: Id) -> Option<&[Id]> {
        match self.value(id) {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The contents of a string.
    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.value(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The named values of a dictionary or the attributes of an instance, at
    /// most [`MAX_NAMED`].
    pub(super) fn named(&self, id: Id) -> impl Iterator<Item = (&str, Id)> {
        let dict = match self.value(id) {
            Value::Instance(Some(state)) => self.value(*state),
            value => value,
        };
        let pairs: &[(Id, Id)] = match dict {
            Value::Dict(pairs) => pairs,
            _ => &[],
        };
        let pairs = pairs.iter().take(MAX_NAMED);
        pairs.filter_map(|&(key, value)| Some((self.text(key)?, value)))
    }

    /// The value of that name.
    pub(super) fn item(&self, id: Id, name: &str) -> Option<Id> {
        let mut named = self.named(id);
        named.find_map(|(key, value)| (key == name).then_some(value))
    }

    /// The storage of that key.
    pub(super) fn storage(&self, key: &str) -> Option<&Storage> {
        self.storages.get(key)
    }
}

/// Reads the pickle at the start of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Result<Object> {
    let mut machine = Machine {
        bytes,
        at: 0,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        storages: HashMap::new(),
    };
    let root = machine
        .run()
        .map_err(|e| format!("invalid pickle at byte {}: {e}", machine.at))?;
    Ok(Object {
        root,
        len: machine.at,
        values: machine.values,
        storages: machine.storages,
    })
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Stack heights at the marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    storages: HashMap<String, Storage>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id> {
        for _ in 0..MAX_STEPS {
            let [opcode] = self.take()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
        }
        Err(format!("it has more than {MAX_STEPS} steps"))
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            // Protocol, frame.
            0x80 => drop(self.take::<1>()?),
            0x95 => drop(self.take::<8>()?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'q' | b'r' | b'h' | b'j' | 0x94 => self.memo(opcode)?,
            b'N' => self.push(Value::Other),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'K' | b'M' | b'J' | 0x8a | 0x8b | b'G' => self.number(opcode)?,
            b'X' | b'T' | b'U' | 0x8c | 0x8d | b'B' | b'C' | 0x8e | 0x96 => self.string(opcode)?,
            b')' | b']' | 0x8f => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b't' | b'l' | 0x91 => {
                let items = self.pop_mark()?;
                self.push(Value::List(items));
            }
            0x85..=0x87 => {
                let mut items = Vec::new();
                for _ in 0..=opcode - 0x85 {
                    items.insert(0, self.pop()?);
                }
                self.push(Value::List(items));
            }
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dict(pairs(&items)?));
            }
            b'a' | b'e' | 0x90 | b's' | b'u' => self.extend(opcode)?,
            b'c' | 0x93 => self.global(opcode)?,
            b'R' | 0x81 | 0x92 | b'b' | b'Q' => self.build(opcode)?,
            _ => {
                let problem = "is not one that torch.save writes";
                return Err(format!("opcode 0x{opcode:02x} {problem}"));
            }
        }
        Ok(())
    }

    /// Stores values in the memo and loads them from it.
    fn memo(&mut self, opcode: u8) -> Result<()> {
        let key = match opcode {
            b'q' | b'h' => self.take().map(|[b]| u32::from(b))?,
            b'r' | b'j' => self.take().map(u32::from_le_bytes)?,
            _ => u32::try_from(self.memo.len()).map_err(|e| e.to_string())?,
        };
        if matches!(opcode, b'h' | b'j') {
            let known = self.memo.get(&key).copied();
            let known = known.ok_or_else(|| format!("the memo has no entry {key}"))?;
            self.stack.push(known);
        } else {
            let top = self.top()?;
            self.memo.insert(key, top);
        }
        Ok(())
    }

    fn number(&mut self, opcode: u8) -> Result<()> {
        let value = match opcode {
            b'K' => self.take().map(|[b]| Value::Int(i64::from(b)))?,
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.take()?))),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.take()?))),
            b'G' => self.take::<8>().map(|_| Value::Other)?,
            _ => {
                let len = self.length(opcode)?;
                long(self.slice(len)?)
            }
        };
        self.push(value);
        Ok(())
    }

    /// Strings, and byte strings, which are ignored.
    fn string(&mut self, opcode: u8) -> Result<()> {
        let len = self.length(opcode)?;
        let bytes = self.slice(len)?;
        self.push(match opcode {
            b'B' | b'C' | 0x8e | 0x96 => Value::Other,
            _ => Value::Text(String::from_utf8_lossy(bytes).into()),
        });
        Ok(())
    }

    /// The length prefix of the opcode's string, bytes or number.
    fn length(&mut self, opcode: u8) -> Result<usize> {
        let len = match opcode {
            b'U' | b'C' | 0x8c | 0x8a => self.take().map(|[b]| u64::from(b))?,
            0x8d | 0x8e | 0x96 => self.take().map(u64::from_le_bytes)?,
            _ => u64::from(u32::from_le_bytes(self.take()?)),
        };
        usize::try_from(len).map_err(|e| e.to_string())
    }

    /// Appends to a list or sets items of a dictionary.
    fn extend(&mut self, opcode: u8) -> Result<()> {
        let items = match opcode {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_mark()?,
        };
        let target = self.top()?;
        match &mut self.values[target] {
            Value::List(list) => list.extend(items),
            Value::Dict(dict) => dict.extend(pairs(&items)?),
            // Items of user-defined classes are ignored.
            Value::Instance(_) | Value::Other => {}
            _ => return Err("only lists and dictionaries have items".to_owned()),
        }
        Ok(())
    }

    /// A class or function by its name.
    fn global(&mut self, opcode: u8) -> Result<()> {
        let (module, name) = if opcode == b'c' {
            (self.line()?, self.line()?)
        } else {
            let (name, module) = (self.pop_text()?, self.pop_text()?);
            (module, name)
        };
        if module.len() + name.len() > MAX_NAME {
            return Err("a class's name is too long".to_owned());
        }
        self.push(Value::Global(format!("{module}.{name}").into()));
        Ok(())
    }

    /// Calls, new instances and their attributes, persistent ids.
    fn build(&mut self, opcode: u8) -> Result<()> {
        let value = match opcode {
            b'R' => {
                let (args, function) = (self.pop()?, self.pop()?);
                self.call(function, args)?
            }
            0x81 | 0x92 => {
                for _ in 0..1 + usize::from(opcode == 0x92) {
                    self.pop()?;
                }
                let class = self.pop()?;
                self.name(class)?;
                Value::Instance(None)
            }
            b'Q' => {
                let id = self.pop()?;
                self.persistent(id)?
            }
            _ => {
                let state = self.pop()?;
                let target = self.top()?;
                if let Value::Instance(attributes) = &mut self.values[target] {
                    *attributes = Some(state);
                }
                return Ok(());
            }
        };
        self.push(value);
        Ok(())
    }

    /// The result of a known function.
    fn call(&mut self, function: Id, args: Id) -> Result<Value> {
        let args = self.list(args)?.to_vec();
        let name = self.name(function)?;
        if IGNORED.contains(&name) {
            return Ok(match name.ends_with("._reconstructor") {
                true => Value::Instance(None),
                false => Value::Other,
            });
        }
        match (name, args.as_slice()) {
            ("collections.OrderedDict", []) | ("collections.defaultdict", _) => {
                Ok(Value::Dict(Vec::new()))
            }
            ("collections.OrderedDict", [items]) => {
                let items = self.list(*items)?.iter();
                let pair = |&item: &Id| match self.list(item)? {
                    &[key, value] => Ok((key, value)),
                    _ => Err("an item of a dictionary is not a pair".to_owned()),
                };
                Ok(Value::Dict(items.map(pair).collect::<Result<_>>()?))
            }
            ("torch.Size", [dims]) => Ok(Value::List(self.list(*dims)?.to_vec())),
            (
                "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2",
                &[storage, offset, shape, strides, ..],
            ) => {
                let storage = self.storage(storage)?.clone();
                self.tensor(storage, offset, shape, strides)
            }
            // Of a storage of bytes: for types without a storage class.
            (
                "torch._utils._rebuild_tensor_v3",
                &[storage, offset, shape, strides, _, _, dtype, ..],
            ) => {
                let storage = self.storage(storage)?.typed(self.name(dtype)?)?;
                self.tensor(storage, offset, shape, strides)
            }
            // A list of numbers in a TorchScript archive.
            (name, _) if name.starts_with("torch.jit._pickle.") => Ok(Value::Other),
            (
                "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state",
                &[tensor, ..],
            ) => match &self.values[tensor] {
                Value::Tensor(view) => Ok(Value::Tensor(view.clone())),
                _ => Err("a parameter is not a tensor".to_owned()),
            },
            _ => Err(format!(
                "it would call {name}, which no weights file needs: no code of it was run"
            )),
        }
    }

    fn storage(&self, id: Id) -> Result<&Storage> {
        match &self.values[id] {
            Value::Storage(storage) => Ok(storage),
            _ => Err("a tensor has no storage".to_owned()),
        }
    }

    fn tensor(&self, storage: Storage, offset: Id, shape: Id, strides: Id) -> Result<Value> {
        let sizes = |id: Id| -> Result<Vec<usize>> {
            self.list(id)?.iter().map(|&size| self.size(size)).collect()
        };
        let (shape, strides) = (sizes(shape)?, sizes(strides)?);
        if shape.len() != strides.len() || shape.len() > MAX_RANK {
            let (dims, steps) = (shape.len(), strides.len());
            return Err(format!("a tensor of {dims} dimensions has {steps} strides"));
        }
        Ok(Value::Tensor(Box::new(View {
            storage,
            offset: self.size(offset)?,
            shape,
            strides,
        })))
    }

    /// The value of a persistent id: a storage, or a class with its source.
    fn persistent(&mut self, id: Id) -> Result<Value> {
        let fields = self.list(id)?.to_vec();
        let text = |id: Id| match &self.values[id] {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        };
        match (
            fields.first().and_then(|&id| text(id)).as_deref(),
            &fields[..],
        ) {
            (Some("storage"), &[_, class, key, _, len, ref view @ ..]) => {
                let class = self.name(class)?;
                let dtype = ValueType::of_class(class)
                    .ok_or_else(|| format!("values of {class} are not supported"))?;
                // Some old files have views of storages.
                if view.iter().any(|&view| self.values[view] != Value::Other) {
                    return Err("views of storages are not supported".to_owned());
                }
                let key = text(key).ok_or("a storage's key is not text")?;
                let storage = Storage {
                    dtype,
                    key: key.into(),
                    len: self.size(len)?,
                };
                let known = self.storages.entry(storage.key.clone());
                if *known.or_insert_with(|| storage.clone()) != storage {
                    return Err(format!("storage {} has two sizes", storage.key));
                }
                Ok(Value::Storage(Box::new(storage)))
            }
            (Some("module"), &[_, class, ..]) => Ok(Value::Global(self.name(class)?.into())),
            _ => Err("it refers to neither a storage nor a class".to_owned()),
        }
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Result<Id> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    fn top(&self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let items = &self.stack[floor..];
        items.last().copied().ok_or("its stack is empty".to_owned())
    }

    /// Pops the values above the last mark.
    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or("it lacks a mark")?;
        Ok(self.stack.split_off(mark))
    }

    fn pop_text(&mut self) -> Result<String> {
        let id = self.pop()?;
        match &self.values[id] {
            Value::Text(text) => Ok(text.to_string()),
            _ => Err("a name is not text".to_owned()),
        }
    }

    fn list(&self, id: Id) -> Result<&[Id]> {
        match &self.values[id] {
            Value::List(items) => Ok(items),
            _ => Err("expected a tuple".to_owned()),
        }
    }

    fn name(&self, id: Id) -> Result<&str> {
        match &self.values[id] {
            Value::Global(name) => Ok(name),
            _ => Err("expected a class or a function".to_owned()),
        }
    }

    fn size(&self, id: Id) -> Result<usize> {
        match self.values[id] {
            Value::Int(value) => {
                usize::try_from(value).map_err(|_| format!("{value} is not a size"))
            }
            _ => Err("expected a number".to_owned()),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let rest = &self.bytes[self.at..];
        let bytes = rest.first_chunk().copied();
        self.at += N.min(rest.len());
        bytes.ok_or("unexpected end of file".to_owned())
    }

    fn slice(&mut self, len: usize) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let slice = rest.get(..len);
        let slice = slice
            .ok_or_else(|| format!("expected {len} more bytes, the file has {}", rest.len()))?;
        self.at += len;
        Ok(slice)
    }

    fn line(&mut self) -> Result<String> {
        let rest = &self.bytes[self.at..];
        let head = &rest[..rest.len().min(MAX_NAME)];
        let len = head.iter().position(|&b| b == b'\n');
        let line = self.slice(len.ok_or("a class's name does not end")?)?;
        self.at += 1;
        Ok(String::from_utf8_lossy(line).into())
    }
}

/// A little-endian integer in two's complement; large ones are ignored.
fn long(bytes: &[u8]) -> Value {
    const WIDTH: usize = size_of::<i64>();
    if bytes.len() > WIDTH {
        return Value::Other;
    }
    let fill = match bytes.last() {
        Some(last) if last & 0x80 != 0 => 0xff,
        _ => 0,
    };
    let mut value = [fill; WIDTH];
    value[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(value))
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>> {
    let (pairs, rest) = items.as_chunks();
    if !rest.is_empty() {
        return Err("a key has no value".to_owned());
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}
