//! A file system of the test's own, in a file.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

pub(crate) struct Disk {
    dir: tempfile::TempDir,
    mounted: bool,
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; run `make tools`"));
    assert!(
        output.status.success(),
        "{program} {args:?} (these tests need root): {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Disk {
    /// A new `kind` (`ext4` or `xfs`) of `mebibytes`, mounted.
    pub(crate) fn new(kind: &str, mebibytes: u64) -> Self {
        let dir = tempfile::Builder::new().prefix("disk-").tempdir().expect("a temporary directory");
        let mut disk = Self { dir, mounted: false };
        let image = File::create(disk.image()).expect("the image");
        image.set_len(mebibytes << 20).expect("its size");
        let force = if kind == "xfs" { "-f" } else { "-F" };
        run(&format!("mkfs.{kind}"), &["-q", force, &disk.image().to_string_lossy()]);
        std::fs::create_dir(disk.path()).expect("a mount point");
        disk.mount();
        disk
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    fn mount(&mut self) {
        run("mount", &["-o", "loop", &self.image().to_string_lossy(), &self.path().to_string_lossy()]);
        self.mounted = true;
    }

    /// What cuts the power, ready to do it at once.
    pub(crate) fn switch(&self) -> Switch {
        let xfs_io = Command::new("xfs_io")
            .args(["-x", "-F", &self.path().to_string_lossy()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("xfs_io: {error}; run `make tools`"));
        Switch(xfs_io)
    }

    /// Unmounts and mounts again, which recovers the journal as a boot would.
    pub(crate) fn power_up(&mut self) {
        run("umount", &[&self.path().to_string_lossy()]);
        self.mounted = false;
        self.mount();
    }
}

/// The power of a disk.
pub(crate) struct Switch(Child);

impl Switch {
    /// Cuts the power: nothing that was not flushed reaches the disk, and nothing can be read.
    pub(crate) fn cut(mut self) {
        let mut words = self.0.stdin.take().expect("the words that it waits for");
        words.write_all(b"shutdown\n").expect("a program that listens");
        drop(words);
        assert!(self.0.wait().expect("its end").success(), "xfs_io (these tests need root)");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").args(["--lazy", &self.path().to_string_lossy()]).status();
        }
    }
}
