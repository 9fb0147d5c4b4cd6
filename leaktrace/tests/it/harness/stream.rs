//! Owns the reading of the JSON stream: every line is validated against the project's schema.
//! Must not know where it came from.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use jsonschema::Validator;
use serde_json::Value;

/// Longest line, its newline included, that log pipelines leave whole.
const LINE_BYTES_MAX: usize = 8_192;

/// Live blocks and their bytes.
pub type Live = (u64, u64);

/// One process of one report, with its sites.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its own line.
    pub line: Value,
    /// The lines of its sites.
    pub sites: Vec<Value>,
}

impl Process {
    /// Its pid.
    pub fn pid(&self) -> u32 {
        u32::try_from(self.line["process"]["pid"].as_u64().unwrap()).unwrap()
    }

    /// Pid and start time, which identify it.
    pub fn identity(&self) -> (u32, String) {
        let start = self.line["process"]["start_time"].as_str().unwrap();
        (self.pid(), start.to_owned())
    }

    /// The name of its executable.
    pub fn name(&self) -> &str {
        self.line["process"]["executable"]["name"].as_str().unwrap()
    }

    /// A figure, which must be there.
    pub fn figure(&self, name: &str) -> u64 {
        let figure = self.line[name].as_u64();
        figure.unwrap_or_else(|| panic!("no {name} in {:#}", self.line))
    }

    /// What is live in all.
    pub fn live(&self) -> Live {
        (self.figure("live_count"), self.figure("live_bytes"))
    }

    /// `exact`, `sampled` or `lossy`.
    pub fn accuracy(&self) -> &str {
        self.line["accuracy"]["kind"].as_str().unwrap()
    }

    /// A counter of loss; 0 where it is not told.
    pub fn lost(&self, counter: &str) -> u64 {
        self.line["accuracy"]["lost"][counter].as_u64().unwrap_or(0)
    }

    /// Whether it has ended.
    pub fn has_exited(&self) -> bool {
        self.line.get("exited").is_some()
    }

    /// What is live by the innermost function whose name begins with `site_`; under the empty
    /// name what has none.
    pub fn by_function(&self) -> BTreeMap<String, Live> {
        let mut functions: BTreeMap<String, Live> = BTreeMap::new();
        for site in &self.sites {
            let frames = site["stack"].as_array().unwrap();
            let names = frames.iter().filter_map(|it| it["function"].as_str());
            let name = names.into_iter().find(|name| name.starts_with("site_"));
            let live = functions
                .entry(name.unwrap_or_default().to_owned())
                .or_default();
            live.0 += site["live_count"].as_u64().unwrap();
            live.1 += site["live_bytes"].as_u64().unwrap();
        }
        functions
    }

    /// The ids of its sites.
    pub fn site_ids(&self) -> BTreeSet<String> {
        let ids = self.sites.iter().map(|site| site["site"]["id"].as_str());
        ids.map(|id| id.unwrap().to_owned()).collect()
    }
}

/// A whole stream.
#[derive(Debug)]
pub struct Stream {
    /// Every line.
    pub lines: Vec<Value>,
}

impl Stream {
    /// Reads a stream that has ended: every line is valid, the first is the start, the last the
    /// end, and reports are numbered from 1.
    pub fn parse(lines: &[String]) -> Self {
        let lines: Vec<Value> = lines.iter().map(|line| validated(line)).collect();
        assert_eq!(lines.first().unwrap()["type"], "start");
        let end = lines.last().unwrap();
        assert_eq!(end["type"], "end");
        let mut stream = Self { lines };
        let count = end_count(stream.lines.last());
        let numbers: BTreeSet<u64> = stream.numbers().collect();
        assert!(
            numbers.iter().all(|number| (1..=count).contains(number)),
            "{count} reports have the numbers {numbers:?}"
        );
        stream.assert_sites_follow();
        stream.assert_identities_are_unique();
        stream.lines.shrink_to_fit();
        stream
    }

    /// The number of every line that has one.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.lines.iter().filter_map(|line| line["report"].as_u64())
    }

    /// How many reports there are.
    pub fn report_count(&self) -> u64 {
        end_count(self.lines.last())
    }

    /// Why the run ended.
    pub fn reason(&self) -> &str {
        self.lines.last().unwrap()["reason"].as_str().unwrap()
    }

    /// The processes of a report.
    pub fn report(&self, number: u64) -> Vec<Process> {
        let mut processes: Vec<Process> = Vec::new();
        for line in self.lines.iter().filter(|line| line["report"] == number) {
            match line["type"].as_str().unwrap() {
                "process" => processes.push(Process {
                    line: line.clone(),
                    sites: Vec::new(),
                }),
                "site" => processes.last_mut().unwrap().sites.push(line.clone()),
                _ => {}
            }
        }
        processes
    }

    /// The processes of the last report.
    pub fn last(&self) -> Vec<Process> {
        self.report(self.report_count())
    }

    /// The one process of the last report with this pid.
    pub fn process(&self, pid: u32) -> Process {
        let last = self.last();
        let mut found = last.iter().filter(|process| process.pid() == pid);
        let Some(process) = found.next() else {
            let listed: Vec<_> = last.iter().map(|it| (it.pid(), it.name())).collect();
            panic!("process {pid} is not in the report, but {listed:?}")
        };
        assert!(found.next().is_none(), "process {pid} is listed twice");
        process.clone()
    }

    /// Each site's line follows that of its process.
    fn assert_sites_follow(&self) {
        let mut process = &Value::Null;
        for line in &self.lines {
            match line["type"].as_str() {
                Some("process") => process = &line["process"],
                Some("site") => {
                    let of = &line["process"];
                    assert_eq!(of["pid"], process["pid"], "{line:#}");
                    assert_eq!(of["start_time"], process["start_time"], "{line:#}");
                }
                _ => {}
            }
        }
    }

    /// Pid and start time tell the processes of a report apart.
    fn assert_identities_are_unique(&self) {
        for number in 1..=self.report_count() {
            let mut seen = BTreeSet::new();
            for process in self.report(number) {
                let identity = process.identity();
                assert!(
                    seen.insert(identity.clone()),
                    "{identity:?} is listed twice"
                );
            }
        }
    }
}

fn end_count(end: Option<&Value>) -> u64 {
    end.unwrap()["report_count"].as_u64().unwrap()
}

/// A line that is as the schema says.
pub fn validated(line: &str) -> Value {
    static SCHEMA: OnceLock<Validator> = OnceLock::new();
    let validator = SCHEMA.get_or_init(|| {
        let schema = include_str!("../../../schema/leaktrace-1.schema.json");
        jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap()
    });
    assert!(line.len() < LINE_BYTES_MAX, "{} bytes: {line}", line.len());
    let value: Value = serde_json::from_str(line).unwrap_or_else(|it| panic!("{it}: {line}"));
    let errors: Vec<_> = validator
        .iter_errors(&value)
        .map(|it| it.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:#?} in {line}");
    value
}
