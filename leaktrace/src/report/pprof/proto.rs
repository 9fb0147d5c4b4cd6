//! Owns the messages of pprof's `profile.proto`, as far as they are written here.
//! Must not know reports.
//!
//! <https://github.com/google/pprof/blob/a3dfd8d50be4/proto/profile.proto>

use prost::Message;

/// A profile. Its strings are indices into `string_table`, whose first one is empty.
#[derive(Clone, PartialEq, Message)]
pub struct Profile {
    /// What the values of a sample are.
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    /// The samples.
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    /// The files that hold code.
    #[prost(message, repeated, tag = "3")]
    pub mapping: Vec<Mapping>,
    /// The instructions that stacks go through.
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    /// The functions that they are in.
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    /// All strings.
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    /// When it was taken.
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    /// How long it was gathered.
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    /// What is between two samples.
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    /// And how much of it.
    #[prost(int64, tag = "12")]
    pub period: i64,
    /// What readers show beside it.
    #[prost(int64, repeated, tag = "13")]
    pub comment: Vec<i64>,
    /// Which values readers show first.
    #[prost(int64, tag = "14")]
    pub default_sample_type: i64,
}

/// What a value is, and its unit.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct ValueType {
    /// The name.
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    /// The unit.
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

/// A stack with its values.
#[derive(Clone, PartialEq, Message)]
pub struct Sample {
    /// The stack, innermost first.
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    /// A value for each sample type.
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
    /// Whose it is.
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

/// A word or a number about a sample.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Label {
    /// What it is about.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// The word.
    #[prost(int64, tag = "2")]
    pub str: i64,
    /// The number, where it is none.
    #[prost(int64, tag = "3")]
    pub num: i64,
}

/// A file that holds code, at addresses.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Mapping {
    /// Not zero.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The first address.
    #[prost(uint64, tag = "2")]
    pub memory_start: u64,
    /// Behind the last address.
    #[prost(uint64, tag = "3")]
    pub memory_limit: u64,
    /// What of the file is at the first address.
    #[prost(uint64, tag = "4")]
    pub file_offset: u64,
    /// The file.
    #[prost(int64, tag = "5")]
    pub filename: i64,
    /// Its GNU build id.
    #[prost(int64, tag = "6")]
    pub build_id: i64,
    /// Whether functions are named, so that readers need not look for them.
    #[prost(bool, tag = "7")]
    pub has_functions: bool,
    /// The same of source files.
    #[prost(bool, tag = "8")]
    pub has_filenames: bool,
    /// The same of lines.
    #[prost(bool, tag = "9")]
    pub has_line_numbers: bool,
    /// The same of inlined functions.
    #[prost(bool, tag = "10")]
    pub has_inline_frames: bool,
}

/// An instruction of a stack.
#[derive(Clone, PartialEq, Message)]
pub struct Location {
    /// Not zero.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The file; 0 where none is known.
    #[prost(uint64, tag = "2")]
    pub mapping_id: u64,
    /// Its address in the mapping.
    #[prost(uint64, tag = "3")]
    pub address: u64,
    /// The functions that it is in: those that are inlined, innermost first, and theirs.
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
}

/// A line of a function.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct Line {
    /// The function.
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
    /// The line in its file.
    #[prost(int64, tag = "2")]
    pub line: i64,
}

/// A function.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Function {
    /// Not zero.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What people call it.
    #[prost(int64, tag = "2")]
    pub name: i64,
    /// What the linker calls it.
    #[prost(int64, tag = "3")]
    pub system_name: i64,
    /// The source file.
    #[prost(int64, tag = "4")]
    pub filename: i64,
}
