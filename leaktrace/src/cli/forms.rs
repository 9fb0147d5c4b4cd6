//! Owns the options that commands share which write reports: the form, the colours.
//! Must not know what the forms look like.

use clap::ValueEnum;

use crate::config::{Colour, Format};

/// The form of a report.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FormatArg {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
    /// For flame graph tools: one stack a line, with its live bytes.
    Folded,
    /// For `go tool pprof` and what else reads its profiles.
    Pprof,
    /// For a browser: one page with flame graph, growth, ages and a table, which loads nothing.
    Html,
}

impl From<FormatArg> for Format {
    fn from(from: FormatArg) -> Self {
        match from {
            FormatArg::Text => Self::Text,
            FormatArg::Json => Self::Json,
            FormatArg::Folded => Self::Folded,
            FormatArg::Pprof => Self::Pprof,
            FormatArg::Html => Self::Html,
        }
    }
}

/// The form of a view of a saved stream.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ViewArg {
    /// For people.
    Text,
    /// For flame graph tools: one stack a line, with its live bytes.
    Folded,
    /// For `go tool pprof` and what else reads its profiles.
    Pprof,
    /// For a browser: one page with flame graph, growth, ages and a table, which loads nothing.
    Html,
}

impl From<ViewArg> for Format {
    fn from(from: ViewArg) -> Self {
        match from {
            ViewArg::Text => Self::Text,
            ViewArg::Folded => Self::Folded,
            ViewArg::Pprof => Self::Pprof,
            ViewArg::Html => Self::Html,
        }
    }
}

/// Whether text is in colours.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ColourArg {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// In any case.
    Always,
    /// In no case.
    Never,
}

impl From<ColourArg> for Colour {
    fn from(from: ColourArg) -> Self {
        match from {
            ColourArg::Auto => Self::Auto,
            ColourArg::Always => Self::Always,
            ColourArg::Never => Self::Never,
        }
    }
}
