//! Owns the way from places to named frames and lasting ids.
//! Must not know processes or figures.

use leaktrace_common::event::StackEnd;
use rustc_hash::FxHashMap;

use crate::{
    modules::{ModuleId, Modules},
    report::model::Frame,
    stacks::{Place, Stack, site_id},
    symbolize::{Request, Symbolizer, own},
};

/// Functions at which a stack is whole although its chain of frame pointers goes on into nowhere:
/// what calls them keeps no frame pointer.
const ROOTS: [&str; 7] = [
    "runtime.goexit",
    "main",
    "_start",
    "start_thread",
    "clone",
    "clone3",
    "__libc_start_call_main",
];

/// Names of places, fetched at once for all that a report lists.
#[derive(Debug, Default)]
pub struct Names {
    frames: FxHashMap<(ModuleId, u64), Vec<Frame>>,
}

impl Names {
    /// Asks for the names of every place of the stacks.
    pub async fn fetch<'a>(
        stacks: impl Iterator<Item = &'a Stack>,
        modules: &Modules,
        symbolizer: &Symbolizer,
    ) -> Self {
        let mut places: Vec<(ModuleId, u64)> = stacks
            .flat_map(|stack| &stack.places)
            .filter_map(|place| match *place {
                Place::Code {
                    module,
                    file_offset,
                } => Some((module, file_offset)),
                Place::Unmapped { .. } => None,
            })
            .collect();
        places.sort_unstable();
        places.dedup();
        let requests = places
            .iter()
            .map(|(module, file_offset)| Request {
                module: modules.get(*module).clone(),
                file_offset: *file_offset,
                is_return_address: true,
            })
            .collect();
        let answers = symbolizer.symbolize(requests).await;
        Self {
            frames: places.into_iter().zip(answers).collect(),
        }
    }

    /// The name of the function at a place; empty where it has none.
    fn function(&self, module: ModuleId, file_offset: u64) -> String {
        let frames = self.frames.get(&(module, file_offset));
        let first = frames.and_then(|frames| frames.first());
        first
            .and_then(|frame| frame.function.clone())
            .unwrap_or_default()
    }

    /// The frames of a stack, innermost first, and why there are no more where there should be.
    #[must_use]
    pub fn of(&self, stack: &Stack) -> (Vec<Frame>, Option<String>) {
        let mut frames = Vec::new();
        for place in &stack.places {
            match *place {
                Place::Code {
                    module,
                    file_offset,
                } => {
                    frames.extend(
                        self.frames
                            .get(&(module, file_offset))
                            .into_iter()
                            .flatten()
                            .cloned(),
                    );
                }
                Place::Unmapped { address } => frames.push(Frame {
                    address,
                    unresolved: Some("no file is mapped there".to_owned()),
                    ..Frame::default()
                }),
            }
        }
        let is_root = |frame: &Frame| {
            frame
                .function
                .as_deref()
                .is_some_and(|name| ROOTS.contains(&name))
        };
        let is_whole = stack.end == StackEnd::Root || frames.iter().any(is_root);
        let why = if is_whole {
            None
        } else {
            stack.end.reason().map(str::to_owned)
        };
        own::trim(&mut frames);
        (frames, why)
    }
}

/// The lasting id of a site.
#[must_use]
pub fn lasting_id(allocator: &str, stack: Option<&Stack>, modules: &Modules, names: &Names) -> u64 {
    let places = stack
        .map(|stack| stack.places.as_slice())
        .unwrap_or_default();
    site_id(
        allocator,
        places.iter().map(|place| match *place {
            Place::Code {
                module,
                file_offset,
            } => {
                let id = module;
                let module = modules.get(module);
                if module.is_perf_map {
                    // Generated code lies elsewhere in each process; its name lasts.
                    return (names.function(id, file_offset), 0);
                }
                (
                    module
                        .build_id
                        .clone()
                        .unwrap_or_else(|| module.name.clone()),
                    file_offset,
                )
            }
            // Such an address is another in each process; that there is one is all that lasts.
            Place::Unmapped { .. } => (String::new(), 0),
        }),
    )
}
