//! Owns links: programs at the instructions of a file, put in and taken out in order.
//! Must not know what any program does, or how its places were chosen.

use std::{
    fs::File,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use aya::programs::uprobe::{UProbeAttachPoint, UProbeLink, UProbeLinkId};

use super::{Probes, Scope, refused};

/// A program, and the instructions at which it is to stand.
pub(super) struct Points {
    /// The program's name.
    pub program: &'static str,
    /// The instructions.
    pub points: Vec<UProbeAttachPoint<'static>>,
    /// Whether it tells there that blocks end, besides whatever else.
    pub ends_blocks: bool,
}

impl Points {
    pub(super) fn of_ends(program: &'static str, points: Vec<UProbeAttachPoint<'static>>) -> Self {
        Self {
            program,
            points,
            ends_blocks: true,
        }
    }

    pub(super) fn of_beginnings(
        program: &'static str,
        points: Vec<UProbeAttachPoint<'static>>,
    ) -> Self {
        Self {
            program,
            points,
            ends_blocks: false,
        }
    }
}

/// A program that stands somewhere.
#[derive(Debug)]
struct Link {
    program: &'static str,
    id: UProbeLinkId,
    ends_blocks: bool,
}

/// The links of one file; they stay until they are detached.
#[derive(Debug, Default)]
pub struct Attached {
    /// In the order in which they were put in.
    links: Vec<Link>,
}

impl Probes {
    /// Puts programs in place, one after the other. The path is that of the held descriptor, so that
    /// nobody can put another file in its place.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; nothing of this file is attached then.
    pub(super) fn attach_in_order(
        &mut self,
        file: &File,
        programs: &[Points],
        scope: Scope,
    ) -> anyhow::Result<Attached> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let mut attached = Attached::default();
        for points in programs.iter().filter(|it| !it.points.is_empty()) {
            if let Err(error) = self.attach_points(points, &path, scope, &mut attached) {
                self.detach(attached);
                return Err(error);
            }
        }
        Ok(attached)
    }

    /// Takes the probes of a file out again, soon, the last first.
    pub fn detach(&mut self, attached: Attached) {
        let links = attached.links.into_iter().rev();
        let links = links.filter_map(|link| self.take_link(link)).collect();
        self.closer.close(links);
    }

    /// The same, all at once: in order each would wait for the one before, while the process runs into it.
    ///
    /// A call that is under way is not told the end of; nothing must be recorded of it any more.
    pub fn detach_at_once(&mut self, attached: Attached) {
        for link in attached.links {
            if let Some(link) = self.take_link(link) {
                self.closer.close(vec![link]);
            }
        }
    }

    /// Takes out, all at once, those probes of a file that tell nothing of the ends of blocks.
    pub fn detach_beginnings(&mut self, attached: &mut Attached) {
        let beginnings = attached.links.extract_if(.., |link| !link.ends_blocks);
        let links = beginnings.collect();
        self.detach_at_once(Attached { links });
    }

    /// A link that is gone is what was wanted.
    fn take_link(&mut self, link: Link) -> Option<UProbeLink> {
        self.uprobe(link.program).ok()?.take_link(link.id).ok()
    }

    fn attach_points(
        &mut self,
        points: &Points,
        path: &Path,
        scope: Scope,
        attached: &mut Attached,
    ) -> anyhow::Result<()> {
        let (name, ends_blocks) = (points.program, points.ends_blocks);
        let each = if self.is_multi {
            points.points.len()
        } else {
            1
        };
        let program = self.uprobe(name)?;
        for points in points.points.chunks(each) {
            let link = program
                .attach(points.iter(), path, scope.into())
                .map_err(|error| {
                    let error = anyhow::Error::from(error);
                    refused(error.context(format!("failed to attach {name}")))
                })?;
            attached.links.push(Link {
                program: name,
                id: link,
                ends_blocks,
            });
        }
        Ok(())
    }
}
