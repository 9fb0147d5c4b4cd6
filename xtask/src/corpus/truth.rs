//! Owns the truth of the corpus: the marks in a program's text, and what a stream says of their lines.
//! Must not know how programs are built or traced.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// One marked line.
#[derive(Debug, PartialEq, Eq)]
pub struct Mark {
    /// What it is called in the table.
    pub name: String,
    /// Counted from 1.
    pub line: u64,
    /// What is so.
    pub guilt: Guilt,
}

/// What is so of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guilt {
    /// It leaks, at about so many bytes a second with all that is made below it.
    Leak(u64),
    /// Nothing of it stays without end.
    Innocent,
    /// It grows in rare steps, or what is made here is used again by what leaks: no verdict is wrong.
    Either,
}

/// What a stream says of one line.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    /// Of the last report; nothing where no stack has the line.
    pub verdict: Option<String>,
    /// Of the line's live bytes, over the second half of the trace.
    pub growth_bytes_per_second: i64,
}

/// The truth of one program.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// The marked lines.
    pub marks: Vec<Mark>,
    /// Functions whose sites are part of a leak though no marked line is on their stacks, by how their names begin.
    pub accomplices: Vec<String>,
}

/// Finds the marks of a program: `LEAK: NAME N bytes/s`, `INNOCENT: NAME` and `EITHER: NAME` in comments that end
/// their lines, and `LEAKS WITH: PREFIX`.
///
/// # Errors
/// Fails where a leak does not tell its rate, or nothing is marked.
pub fn truth(text: &str) -> Result<Truth> {
    let mut truth = Truth::default();
    for (line, code) in (1..).zip(text.lines()) {
        let comment = code.trim_end().trim_end_matches("*/").trim_end();
        let after = |word: &str| {
            let marks = ["/* ", "// ", " * "].map(|begin| format!("{begin}{word}: "));
            marks
                .iter()
                .find_map(|mark| Some(comment.split_once(mark)?.1))
        };
        let named = [("INNOCENT", Guilt::Innocent), ("EITHER", Guilt::Either)];
        let known = named
            .into_iter()
            .find_map(|(word, guilt)| Some((after(word)?, guilt)));
        if let Some((name, guilt)) = known {
            truth.marks.push(Mark {
                name: name.to_owned(),
                line,
                guilt,
            });
        } else if let Some(words) = after("LEAK") {
            let (name, rate) = words
                .strip_suffix(" bytes/s")
                .and_then(|words| words.rsplit_once(' '))
                .with_context(|| format!("line {line}: a leak tells no rate in bytes/s"))?;
            truth.marks.push(Mark {
                name: name.to_owned(),
                line,
                guilt: Guilt::Leak(rate.parse().context("a rate is a number")?),
            });
        } else if let Some(prefix) = after("LEAKS WITH") {
            truth.accomplices.push(prefix.to_owned());
        }
    }
    if truth.marks.is_empty() {
        bail!("nothing is marked");
    }
    Ok(truth)
}

/// The sites of a stream, of all its reports.
///
/// # Errors
/// Fails where a line of the stream is no JSON.
pub fn sites(stream: &str) -> Result<Vec<Value>> {
    let mut sites = Vec::new();
    for line in stream.lines() {
        let object: Value =
            serde_json::from_str(line).context("a line of the stream is no JSON")?;
        if object["type"] == "site" {
            sites.push(object);
        }
    }
    Ok(sites)
}

/// Sites of the last of `reports` reports that are called growing though nothing on their stacks is marked as a leak: the
/// innermost frames of each.
pub fn strays(sites: &[Value], file: &str, truth: &Truth, reports: u32) -> Vec<String> {
    /// Enough to know where it is.
    const FRAMES: usize = 4;
    let mut strays = Vec::new();
    for object in sites {
        if object["verdict"] != "growing" || object["report"] != reports {
            continue;
        }
        let leaks = |mark: &Mark| {
            mark.guilt != Guilt::Innocent && has_line(&object["stack"], file, mark.line)
        };
        let frames = object["stack"].as_array().cloned().unwrap_or_default();
        let name = |frame: &Value| frame["function"].as_str().unwrap_or("?").to_owned();
        let names: Vec<String> = frames.iter().map(name).collect();
        let is_accomplice = names.iter().any(|name| {
            let mut known = truth.accomplices.iter();
            known.any(|prefix| name.starts_with(prefix))
        });
        if !truth.marks.iter().any(leaks) && !is_accomplice {
            strays.push(
                names
                    .into_iter()
                    .take(FRAMES)
                    .collect::<Vec<_>>()
                    .join(" < "),
            );
        }
    }
    strays
}

/// What the first `reports` reports of a stream say of a marked line of a file.
pub fn seen(sites: &[Value], file: &str, mark: &Mark, reports: u32, interval_seconds: u32) -> Seen {
    let mut live_bytes = BTreeMap::<u32, i64>::new();
    let mut verdicts = BTreeMap::<u32, Vec<String>>::new();
    for object in sites {
        let report = object["report"]
            .as_u64()
            .and_then(|report| u32::try_from(report).ok());
        let Some(report) = report else {
            continue;
        };
        if report > reports || !has_line(&object["stack"], file, mark.line) {
            continue;
        }
        *live_bytes.entry(report).or_default() += object["live_bytes"].as_i64().unwrap_or(0);
        let verdict = object["verdict"].as_str().unwrap_or_default().to_owned();
        verdicts.entry(report).or_default().push(verdict);
    }
    // One growing stack is enough: a line may be reached by several.
    let verdict = verdicts.pop_last().map(|(_, mut last)| {
        let growing = last.iter().position(|verdict| verdict == "growing");
        last.swap_remove(growing.unwrap_or(0))
    });
    let (middle, end) = (reports / 2, reports);
    let at = |report| live_bytes.get(&report).copied().unwrap_or(0);
    let seconds = i64::from((end - middle) * interval_seconds);
    Seen {
        verdict,
        growth_bytes_per_second: (at(end) - at(middle)).checked_div(seconds).unwrap_or(0),
    }
}

/// Whether a stack goes through a line of a file.
fn has_line(stack: &Value, file: &str, line: u64) -> bool {
    stack.as_array().is_some_and(|frames| {
        frames.iter().any(|frame| {
            let path = frame["file"].as_str().unwrap_or_default();
            path.rsplit('/').next() == Some(file) && frame["line"].as_u64() == Some(line)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks carry the name, the line and the rate; a leak without a rate is refused.
    #[test]
    fn marks_are_found_where_they_stand() {
        let text = "// LEAKS WITH: net.\n a = malloc(1); /* LEAK: my map 12 bytes/s */\n b(); // INNOCENT: a pool\n c(); // EITHER: a table\n";
        let Truth { marks, accomplices } = truth(text).unwrap();
        assert_eq!(accomplices, ["net."]);
        assert_eq!((marks[0].name.as_str(), marks[0].line), ("my map", 2));
        assert_eq!(marks[0].guilt, Guilt::Leak(12));
        assert_eq!((marks[1].name.as_str(), marks[1].line), ("a pool", 3));
        assert_eq!(marks[1].guilt, Guilt::Innocent);
        assert_eq!(marks[2].guilt, Guilt::Either);
        assert!(truth("f(); /* LEAK: fast */").is_err());
    }

    /// Only stacks through the marked line count, and their last report gives the verdict.
    #[test]
    fn a_stream_is_read_by_line() {
        let site = |report: u32, line: u64, bytes: u64, verdict: &str| {
            serde_json::json!({
                "type": "site", "report": report, "live_bytes": bytes, "verdict": verdict,
                "stack": [{"file": "/src/a.c", "line": line}],
            })
            .to_string()
        };
        let stream = [
            site(1, 7, 1000, "young"),
            site(2, 7, 1500, "growing"),
            site(2, 8, 9000, "stable"),
            site(3, 7, 9999, "stable"),
        ];
        let sites = sites(&stream.join("\n")).unwrap();
        let mark = Mark {
            name: "m".to_owned(),
            line: 7,
            guilt: Guilt::Leak(100),
        };
        let seen = seen(&sites, "a.c", &mark, 2, 5);
        assert_eq!(seen.verdict.as_deref(), Some("growing"));
        assert_eq!(seen.growth_bytes_per_second, 100);
        let marked = |line| {
            let mark = Mark {
                name: String::new(),
                line,
                guilt: Guilt::Leak(1),
            };
            Truth {
                marks: vec![mark],
                accomplices: Vec::new(),
            }
        };
        let strays = |line| strays(&sites, "a.c", &marked(line), 2);
        assert_eq!(strays(7), Vec::<String>::new());
        assert_eq!(strays(8), ["?"]);
    }
}
