//! Owns the command line: which commands there are. Each has its options in a file of its own.
//! Must not know how anything is done.

mod diff;
mod forms;
mod inspect;
mod names;
mod render;
mod shown;
mod targets;
mod top;
mod trace;
mod values;
mod watch;

use clap::{Parser, Subcommand};

pub use diff::{DiffArgs, DiffFormatArg};
pub use forms::{ColourArg, FormatArg, ViewArg};
pub use inspect::InspectArgs;
pub use names::NameArgs;
pub use render::RenderArgs;
pub use top::TopArgs;
pub use trace::TraceArgs;
pub use watch::WatchArgs;

/// Shows which code of which process allocates memory and does not give it back.
///
/// Nothing in the traced program is prepared, restarted or harmed: leaktrace watches calls of
/// malloc and free from the kernel, by eBPF, and matches them.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Trace now, report, stop.
    Trace(Box<TraceArgs>),
    /// Watch processes grow on a live screen, and look into their sites and stacks.
    Top(TopArgs),
    /// Show a saved stream in another form, on any machine.
    Render(RenderArgs),
    /// Tell what would be probed of a process, where, and what would not and why. Attaches nothing.
    Inspect(InspectArgs),
    /// Show what changed between two saved streams, by site.
    Diff(DiffArgs),
    /// Watch the memory of every process, for months, and tell whose keeps growing.
    Watch(WatchArgs),
    /// Tell what this kernel and these privileges allow.
    Doctor,
    /// Be called by the agent that measures what a probe costs.
    #[command(name = crate::calibration::COMMAND, hide = true)]
    CalibrationTarget,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// The definition holds together: no option twice, no default that does not parse.
    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// A command keeps its own options.
    #[test]
    fn a_command_keeps_its_options() {
        let line = ["leaktrace", "trace", "--top", "3", "--", "ls", "--top", "4"];
        let Command::Trace(args) = Cli::parse_from(line).command else {
            panic!("no trace")
        };
        let config = args.into_config();
        assert_eq!(config.top, 3);
        assert_eq!(config.targets.command, ["ls", "--top", "4"]);
        assert!(!config.targets.is_host());
    }
    /// An option that follows those of whom to trace is not listed among them.
    #[test]
    fn options_stand_under_their_own_headings() {
        let cli = Cli::command();
        for name in ["trace", "top"] {
            let command = cli.find_subcommand(name).unwrap();
            let heading = |id| {
                let arg = command.get_arguments().find(|it| it.get_id() == id);
                arg.unwrap().get_help_heading()
            };
            assert_eq!(heading("pod"), Some("Whom to trace"));
            assert_eq!(heading("kubelet"), Some("Names of containers and pods"));
            assert_eq!(heading("interval"), None);
        }
    }
}
