//! Owns the programs of the corpus: which there are, in which language, and how each is built.
//! Must not know what leaks in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::setup::Tools;
use crate::{agent, golang, toolchain};

/// Where the programs are.
const DIR: &str = "leaktrace/corpus";

/// What a program is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    C,
    Cplusplus,
    Go,
    Rust,
}

/// One program, named for its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// `LANGUAGE/NAME`
    pub name: &'static str,
    /// What it is written in.
    pub language: Language,
}

/// A small load in each, so that a few run at the same time.
pub const PROGRAMS: [Program; 20] = [
    Program::new("c/cache", Language::C),
    Program::new("c/connections", Language::C),
    Program::new("c/contexts", Language::C),
    Program::new("c/files", Language::C),
    Program::new("c/streams", Language::C),
    Program::new("c/threads", Language::C),
    Program::new("cpp/service", Language::Cplusplus),
    Program::new("go/cache", Language::Go),
    Program::new("go/connections", Language::Go),
    Program::new("go/contexts", Language::Go),
    Program::new("go/files", Language::Go),
    Program::new("go/origin", Language::Go),
    Program::new("go/sharing", Language::Go),
    Program::new("go/streams", Language::Go),
    Program::new("rust/cache", Language::Rust),
    Program::new("rust/connections", Language::Rust),
    Program::new("rust/contexts", Language::Rust),
    Program::new("rust/files", Language::Rust),
    Program::new("rust/streams", Language::Rust),
    Program::new("rust/tasks", Language::Rust),
];

impl Language {
    /// As its community writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::C => "C",
            Self::Cplusplus => "C++",
            Self::Go => "Go",
            Self::Rust => "Rust",
        }
    }
}

impl Program {
    const fn new(name: &'static str, language: Language) -> Self {
        Self { name, language }
    }

    /// Its own name, without the language.
    pub fn stem(self) -> &'static str {
        self.name
            .split_once('/')
            .map_or(self.name, |(_, stem)| stem)
    }

    /// The file that its marks stand in.
    pub fn source(self) -> PathBuf {
        let stem = self.stem();
        let file = match self.language {
            Language::C => format!("c/{stem}.c"),
            Language::Cplusplus => format!("cpp/{stem}.cc"),
            Language::Go => format!("go/{stem}/{stem}.go"),
            Language::Rust => format!("rust/src/bin/{stem}.rs"),
        };
        toolchain::workspace_dir().join(DIR).join(file)
    }

    /// Builds it as distributions do: optimized, without frame pointers where that is the rule.
    ///
    /// # Errors
    /// Fails where its compiler is missing or refuses it.
    pub fn build(self, tools: &Tools) -> Result<PathBuf> {
        let target = toolchain::target_dir().join("corpus");
        let program = target.join(self.name);
        let dir = program.parent().unwrap_or(&target);
        fs::create_dir_all(dir).with_context(|| format!("failed to create {}", dir.display()))?;
        match self.language {
            Language::C => compile("cc", &self.source(), &program)?,
            Language::Cplusplus => compile("c++", &self.source(), &program)?,
            Language::Go => self.build_go(&target, &program)?,
            Language::Rust => {
                let target = target.join("cargo");
                self.build_rust(tools, &target)?;
                return Ok(target.join("release").join(self.stem()));
            }
        }
        Ok(program)
    }

    fn build_go(self, target: &Path, program: &Path) -> Result<()> {
        let mut go = Command::new(golang::newest()?);
        go.current_dir(toolchain::workspace_dir().join(DIR).join("go"));
        go.args(["build", "-o"]).arg(program);
        go.arg(format!("./{}", self.stem()));
        // Neither another toolchain nor anyone's home.
        go.env("GOTOOLCHAIN", "local").env("GOFLAGS", "");
        go.env("GOPATH", target.join("go-path"));
        go.env("GOCACHE", target.join("go-cache"));
        agent::run(&mut go)
    }

    fn build_rust(self, tools: &Tools, target: &Path) -> Result<()> {
        let mut cargo = tools.cargo()?;
        cargo.current_dir(toolchain::workspace_dir().join(DIR).join("rust"));
        cargo.args(["build", "--release", "--quiet", "--bin", self.stem()]);
        cargo.arg("--target-dir").arg(target);
        agent::run(&mut cargo)
    }
}

fn compile(compiler: &str, source: &Path, program: &Path) -> Result<()> {
    let mut cc = Command::new(compiler);
    cc.args(["-O2", "-g", "-Wall", "-Wextra", "-pthread", "-o"]);
    cc.args([program, source]);
    toolchain::scrub(&mut cc);
    agent::run(&mut cc)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every file of the corpus that has a mark is a program that is run.
    #[test]
    fn no_program_is_forgotten() {
        let known: Vec<PathBuf> = PROGRAMS.iter().map(|it| it.source()).collect();
        let mut dirs = vec![toolchain::workspace_dir().join(DIR)];
        let mut marked = 0;
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else if fs::read_to_string(&path)
                    .is_ok_and(|text| text.contains(" LEAK: ") && text.contains("main("))
                {
                    marked += 1;
                    assert!(known.contains(&path), "{} is not run", path.display());
                }
            }
        }
        assert_eq!(marked, PROGRAMS.len());
    }
}
