//! Owns turning a place in a file into function names, on a thread of its own.
//! Must not know processes, stacks or reports beyond the frame.

mod debuginfod;
mod demangle;
mod fetcher;
pub mod go;
mod image;
pub mod own;
mod perf_map;
mod worker;

use std::{
    sync::{Arc, mpsc},
    thread,
};

use anyhow::Context as _;
use tokio::sync::oneshot;

use self::{
    debuginfod::Debuginfod,
    fetcher::{Fetcher, PATIENCE},
    worker::Worker,
};
use crate::{modules::Module, report::model::Frame};

/// Parsers recurse over what a file holds; a deep stack of untouched pages is
/// cheaper than a crash.
const STACK_BYTES: usize = 32 * 1024 * 1024;

/// One address to name.
#[derive(Clone, Debug)]
pub struct Request {
    /// The file.
    pub module: Arc<Module>,
    /// Where in the file; for a return address the offset as it was found on the
    /// stack.
    pub file_offset: u64,
    /// Whether a call stands before the address.
    pub is_return_address: bool,
}

impl Request {
    /// The place to look up. A return address can be the first byte of the next
    /// function or line, where the call was the last: the call itself lies one
    /// byte before. No other place in the agent knows this rule.
    fn lookup_offset(&self) -> u64 {
        if self.is_return_address {
            self.file_offset.wrapping_sub(1)
        } else {
            self.file_offset
        }
    }
}

/// What is asked of the thread.
enum Job {
    /// To name addresses.
    Name {
        requests: Vec<Request>,
        answer: oneshot::Sender<Vec<Vec<Frame>>>,
    },
    /// To hold nothing that can be made again.
    LetGo,
}

/// The way to the thread that owns blazesym, whose state cannot change threads.
#[derive(Clone, Debug)]
pub struct Symbolizer {
    jobs: mpsc::Sender<Job>,
}

impl Symbolizer {
    /// Starts the thread; it ends when the last handle is dropped.
    pub fn spawn() -> anyhow::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("symbolizer".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let servers = Fetcher::new(Debuginfod::from_env(), PATIENCE);
                let mut worker = Worker::new(servers);
                for job in queue {
                    match job {
                        // Who asked may have given up: then nobody needs the answer.
                        Job::Name { answer, .. } if answer.is_closed() => {}
                        Job::Name { requests, answer } => {
                            let _ = answer.send(worker.symbolize(&requests));
                        }
                        Job::LetGo => worker.let_go(),
                    }
                }
            })
            .context("failed to start the symbolizer thread")?;
        Ok(Self { jobs })
    }

    /// Names addresses: for each request its frames, innermost first, with inlined
    /// functions as frames of their own. There is at least one frame each.
    pub async fn symbolize(&self, requests: Vec<Request>) -> Vec<Vec<Frame>> {
        match self.ask(&requests) {
            Some(answer) => answer.await.unwrap_or_else(|_| unanswered(&requests)),
            None => unanswered(&requests),
        }
    }

    /// The same for callers outside of the runtime; must not be called within.
    pub fn symbolize_blocking(&self, requests: Vec<Request>) -> Vec<Vec<Frame>> {
        match self.ask(&requests) {
            Some(answer) => answer
                .blocking_recv()
                .unwrap_or_else(|_| unanswered(&requests)),
            None => unanswered(&requests),
        }
    }

    /// Has all dropped that can be made again, which costs the next names the time.
    pub fn let_go(&self) {
        // A thread that has died holds nothing.
        let _ = self.jobs.send(Job::LetGo);
    }

    fn ask(&self, requests: &[Request]) -> Option<oneshot::Receiver<Vec<Vec<Frame>>>> {
        let (answer, receiver) = oneshot::channel();
        self.jobs
            .send(Job::Name {
                requests: requests.to_vec(),
                answer,
            })
            .ok()?;
        Some(receiver)
    }
}

/// Frames without names, should the thread have died.
fn unanswered(requests: &[Request]) -> Vec<Vec<Frame>> {
    requests
        .iter()
        .map(|request| vec![unresolved(request, "symbolizer failed")])
        .collect()
}

/// The frame that every request has at least.
fn bare(request: &Request) -> Frame {
    let module = &request.module;
    Frame {
        module: (!module.name.is_empty()).then(|| module.name.clone()),
        build_id: module.build_id.clone(),
        address: request.file_offset,
        ..Frame::default()
    }
}

/// The frame of an address that has no name, and why.
fn unresolved(request: &Request, reason: &str) -> Frame {
    Frame {
        unresolved: Some(reason.to_owned()),
        ..bare(request)
    }
}

#[cfg(test)]
mod tests;
