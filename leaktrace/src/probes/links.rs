//! Owns links: programs at the instructions of a file, put in and taken out in order.
//! Must not know what any program does, or how its places were chosen.

use std::{
    fs::File,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use anyhow::Context as _;
use aya::programs::uprobe::{UProbeAttachPoint, UProbeLink, UProbeLinkId};

use super::{Probes, Scope, refused};

/// A program, and the instructions at which it is to stand.
pub(super) type Points = (&'static str, Vec<UProbeAttachPoint<'static>>);

/// The links of one file; they stay until they are detached.
#[derive(Debug, Default)]
pub struct Attached {
    /// With the program of each, in the order in which they were put in.
    links: Vec<(&'static str, UProbeLinkId)>,
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
        for (name, points) in programs {
            if let Err(error) = self.attach_points(name, points, &path, scope, &mut attached) {
                self.detach(attached);
                return Err(error);
            }
        }
        Ok(attached)
    }

    /// Takes the probes of a file out again, soon, the last first.
    pub fn detach(&mut self, attached: Attached) {
        for (name, link) in attached.links.into_iter().rev() {
            let closing = self.closing.clone();
            // A link that is gone is what was wanted, and one that nobody takes over is closed right
            // here.
            if let Ok(program) = self.uprobe(name)
                && let Ok(link) = program.take_link(link)
            {
                let _ = closing.send(link);
            }
        }
    }

    fn attach_points(
        &mut self,
        name: &'static str,
        points: &[UProbeAttachPoint<'static>],
        path: &Path,
        scope: Scope,
        attached: &mut Attached,
    ) -> anyhow::Result<()> {
        let each = if self.is_multi {
            points.len().max(1)
        } else {
            1
        };
        let program = self.uprobe(name)?;
        for points in points.chunks(each) {
            let link = program
                .attach(points.iter(), path, scope.into())
                .map_err(|error| {
                    let error = anyhow::Error::from(error);
                    refused(error.context(format!("failed to attach {name}")))
                })?;
            attached.links.push((name, link));
        }
        Ok(())
    }
}

/// Starts the thread that closes links, in the order in which it is given them; it ends with the
/// last sender.
pub(super) fn close_links() -> anyhow::Result<mpsc::Sender<UProbeLink>> {
    let (sender, links) = mpsc::channel();
    thread::Builder::new()
        .name("link-closer".to_owned())
        .spawn(move || links.into_iter().for_each(drop))
        .context("failed to start the thread that closes links")?;
    Ok(sender)
}
