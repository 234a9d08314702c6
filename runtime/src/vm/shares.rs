//! What a VM's file server serves, changed while it runs.
//!
//! Owns the list of it and the change of the server's mounts. What is one share with
//! another is for `served_shares` to decide.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use caisson_jail::Kind;
use caisson_jail::running::{self, PlacedMount};

use crate::owner::OfferedShare;
use crate::process::pidfd::Pidfd;
use crate::vm::served_shares::{Cut, Placement, Served};

/// The shares of one VM.
pub(crate) struct Shares {
    file_server: Pidfd,
    served: Mutex<Served>,
}

impl Shares {
    /// Those that the file server has begun with.
    pub(crate) const fn new(file_server: Pidfd, served: Served) -> Self {
        Self {
            file_server,
            served: Mutex::new(served),
        }
    }

    /// Has served for the container `user` what is not served yet: the mounts `trees`,
    /// one for each of `offered`.
    ///
    /// # Errors
    /// One line.
    pub(crate) fn add(
        &self,
        user: &str,
        offered: &[OfferedShare],
        trees: Vec<OwnedFd>,
    ) -> Result<Placement, String> {
        let cuts = offered.iter().cloned().zip(trees);
        let cuts = cuts.map(|(share, tree)| Cut { share, tree }).collect();
        let mut served = self.served();
        let placement = served.place(user, cuts);
        let attached = self.attach(&served, &placement);
        attached
            .inspect_err(|_| served.close_again(&placement))
            .map_err(|err| format!("share: {err}"))?;
        Ok(placement)
    }

    fn attach(&self, served: &Served, placement: &Placement) -> Result<(), String> {
        let failed = |err: io::Error| err.to_string();
        let new = served.new_trees(placement).map_err(failed)?.into_iter();
        let mounts = new.map(|Cut { share, tree }| PlacedMount {
            path: share.path,
            kind: if share.is_dir {
                Kind::Directory
            } else {
                Kind::File
            },
            tree,
        });
        let mounts: Vec<_> = mounts.collect();
        let opened = served.opened_trees(placement).map_err(failed)?;
        in_a_thread(|| {
            running::attach(&self.file_server, &mounts)?;
            let trees: Vec<_> = opened.iter().map(|cut| cut.tree.as_fd()).collect();
            running::make_writable(&self.file_server, &trees)
        })
    }

    /// Returns the shares that no container uses any more without `user`.
    pub(crate) fn release(&self, user: &str) -> Vec<PathBuf> {
        self.served().release(user)
    }

    /// Takes away what [`Self::release`] has returned.
    pub(crate) fn remove(&self, unused: &[PathBuf]) {
        // What can't be taken away goes with the VM.
        in_a_thread(|| running::detach(&self.file_server, unused)).ok();
        self.served().forget(unused);
    }

    fn served(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What enters the file server's mount namespace never comes back.
fn in_a_thread(
    work: impl FnOnce() -> Result<(), caisson_jail::Error> + Send,
) -> Result<(), String> {
    let ended = std::thread::scope(|scope| scope.spawn(work).join());
    match ended {
        Ok(done) => done.map_err(|err| crate::log::error_line::chain(&err)),
        Err(_) => Err("a thread has failed".to_owned()),
    }
}
