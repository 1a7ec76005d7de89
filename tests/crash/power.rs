//! A power cut while fifty clients push: the file system under the store is shut down unflushed.

use std::time::Duration;

use crate::disk::Disk;
use crate::support::Setup;
use crate::traffic::{Traffic, works};

fn cut_and_come_back(kind: &str) {
    let mut disk = Disk::new(kind, 2048);
    let mut server = Setup::plain().data_dir(disk.path().join("data")).start();
    for round in 0..2u64 {
        let traffic = Traffic::start(&server);
        let switch = disk.switch();
        std::thread::sleep(Duration::from_millis(3000 + 1000 * round));
        traffic.power_goes();
        switch.cut();
        server.kill();
        let outcome = traffic.stop();
        disk.power_up();
        server.restart();
        outcome.check(&server);
        works(&server);
    }
    server.kill();
}

#[test]
fn a_power_cut_on_ext4_loses_no_promise() {
    cut_and_come_back("ext4");
}

#[test]
fn a_power_cut_on_xfs_loses_no_promise() {
    cut_and_come_back("xfs");
}
