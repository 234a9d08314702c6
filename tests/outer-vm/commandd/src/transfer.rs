//! Files and trees into and out of a test host, with owner, mode, links and
//! sparseness, as tar streams between the `tar` programs of both sides.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{self, Stdio};
use std::time::Duration;

use crate::client::{Client, Command, Error};
use crate::protocol::Status;

const TRANSFER_TIMEOUT: Duration = Duration::from_secs(600);

/// Written beside its destination and renamed, as a program that is running
/// cannot be overwritten.
const RECEIVE_FILE: &str =
    r#"mkdir -p "$(dirname "$1")" && cat >"$1.new" && chmod "$2" "$1.new" && mv "$1.new" "$1""#;
const RECEIVE_TREE: &str = r#"mkdir -p "$1" && tar -C "$1" -xf -"#;

impl Client {
    /// Copies a local file or tree to `destination` in the test host; the
    /// contents of a tree are added to a directory that exists.
    ///
    /// # Errors
    /// [`Error`], also if the command on the other side does not succeed.
    pub fn put(&self, source: &Path, destination: &str) -> Result<(), Error> {
        if source.is_dir() {
            let mut tar = local_tar(source, "-cf")
                .stdout(Stdio::piped())
                .spawn()
                .map_err(Error::Local)?;
            let stream = tar.stdout.take().ok_or(Error::NoStatus)?;
            self.transfer(RECEIVE_TREE, &[destination], stream, &mut io::sink())?;
            return finish(tar);
        }
        let file = File::open(source).map_err(Error::Local)?;
        let mode = file.metadata().map_err(Error::Local)?.permissions().mode();
        let mode = format!("{:o}", mode & 0o7777);
        self.transfer(RECEIVE_FILE, &[destination, &mode], file, &mut io::sink())
    }

    /// Copies a file or tree of the test host to the local `destination`.
    ///
    /// # Errors
    /// As [`Client::put`].
    pub fn get(&self, source: &str, destination: &Path) -> Result<(), Error> {
        if self
            .run(&Command::new(["test", "-d", source]))?
            .status
            .success()
        {
            std::fs::create_dir_all(destination).map_err(Error::Local)?;
            let mut tar = local_tar(destination, "-xf")
                .stdin(Stdio::piped())
                .spawn()
                .map_err(Error::Local)?;
            let mut stream = tar.stdin.take().ok_or(Error::NoStatus)?;
            self.transfer(
                r#"tar -C "$1" -cf - ."#,
                &[source],
                io::empty(),
                &mut stream,
            )?;
            drop(stream);
            return finish(tar);
        }
        let mut file = File::create(destination).map_err(Error::Local)?;
        self.transfer(r#"exec cat "$1""#, &[source], io::empty(), &mut file)
    }

    fn transfer(
        &self,
        script: &str,
        arguments: &[&str],
        input: impl io::Read + Send + 'static,
        output: &mut dyn io::Write,
    ) -> Result<(), Error> {
        let argv = ["sh", "-c", script, "sh"]
            .into_iter()
            .chain(arguments.iter().copied());
        let mut stderr = Vec::new();
        match self.stream(
            &Command::new(argv).timeout(TRANSFER_TIMEOUT),
            input,
            output,
            &mut stderr,
        )? {
            Status::Exited(0) => Ok(()),
            status => Err(Error::Transfer {
                command: script.to_owned(),
                status,
                stderr: String::from_utf8_lossy(&stderr).trim_end().to_owned(),
            }),
        }
    }
}

fn local_tar(folder: &Path, action: &str) -> process::Command {
    let mut tar = process::Command::new("tar");
    tar.arg("-C").arg(folder).args([action, "-"]);
    if action == "-cf" {
        tar.arg(".");
    }
    tar
}

fn finish(mut tar: process::Child) -> Result<(), Error> {
    let status = tar.wait().map_err(Error::Local)?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Local(io::Error::other(format!(
            "local tar: {status}"
        ))))
    }
}
