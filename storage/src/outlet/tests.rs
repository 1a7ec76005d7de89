#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::os::unix::net::UnixStream;

use super::*;
use crate::error::Error;
use crate::objects::{Objects, Trailer};

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251 + 1) as u8).collect()
}

/// A sealed object with that content, and where its file is.
fn object(content: &[u8]) -> (tempfile::TempDir, ObjectReader, std::path::PathBuf) {
    // On a disk: of a file system in memory, the kernel does not tell what would be read without waiting.
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let objects = Objects::open(dir.path().to_str().unwrap()).unwrap();
    let key = crate::names::new_id();
    let mut writer = objects.append(&key, 0).unwrap();
    writer.write(&[Bytes::copy_from_slice(content)]).unwrap();
    writer.seal(&Trailer { org: "o".into(), digest: "d".into(), size: content.len() as u64 }).unwrap();
    let path = dir.path().join("objects").join(&key[24..]).join(&key);
    let reader = objects.open_object(&key).unwrap();
    (dir, reader, path)
}

fn sockets() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours, theirs)
}

fn due<'a>(slices: &[&'a [u8]]) -> Vec<IoSlice<'a>> {
    slices.iter().map(|slice| IoSlice::new(slice)).collect()
}

#[test]
fn what_is_due_in_step_is_told_apart() {
    let (_dir, reader, _) = object(&content(1000));
    let outlet = Outlet::new();
    assert_eq!(outlet.next(&due(&[b"only bytes", b"and more"])).unwrap(), Next::Bytes);
    assert_eq!(outlet.next(&[]).unwrap(), Next::Bytes);
    let (first, second) = (outlet.push(&reader, 0, 100), outlet.push(&reader, 500, 50));
    assert_eq!(outlet.next(&due(&[b"head", b"", &first, &second])).unwrap(), Next::BytesBefore(2));
    assert_eq!(outlet.next(&due(&[b"", &first, b"\r\n", &second, b"tail"])).unwrap(), Next::Segment);
    assert!(outlet.push(&reader, 0, 0).is_empty());
    assert_eq!(outlet.next(&due(&[&first, &second])).unwrap(), Next::Segment);
    assert_eq!(outlet.push(&reader, 0, u64::MAX).len(), SEGMENT);
}

#[test]
fn whatever_is_out_of_step_is_refused_for_ever() {
    let (_dir, reader, _) = object(&content(1000));
    type Case = (&'static str, fn(&Bytes, &Bytes) -> Vec<Bytes>);
    let cases: [Case; 9] = [
        ("copies", |a, b| vec![Bytes::copy_from_slice(a), Bytes::copy_from_slice(b)]),
        ("a copy in the head", |a, b| vec![Bytes::from([b"head", &a[..]].concat()), b.clone()]),
        ("kept back", |a, _| vec![a.clone()]),
        ("lost", |_, b| vec![b.clone()]),
        ("all lost, bytes follow", |_, _| vec![Bytes::from_static(b"next answer")]),
        ("another order", |a, b| vec![b.clone(), a.clone()]),
        ("shortened", |a, b| vec![a.slice(..99), b.clone()]),
        ("moved on", |a, b| vec![a.slice(1..), b.clone()]),
        ("twice", |a, b| vec![a.clone(), b.clone(), b.clone()]),
    ];
    for (what, make) in cases {
        let outlet = Outlet::new();
        let (first, second) = (outlet.push(&reader, 0, 100), outlet.push(&reader, 100, 100));
        let wrong = make(&first, &second);
        let slices: Vec<&[u8]> = wrong.iter().map(|slice| &slice[..]).collect();
        assert!(outlet.next(&due(&slices)).is_err(), "{what}");
        assert!(outlet.next(&due(&[&first, &second])).is_err(), "{what}: in step again");
        let (ours, _theirs) = sockets();
        assert!(outlet.send(&ours).is_err(), "{what}: sent");
    }
    let (one, other) = (Outlet::new(), Outlet::new());
    let marker = one.push(&reader, 0, 100);
    assert!(other.next(&due(&[&marker])).is_err(), "no segment at all");
    let (one, other) = (Outlet::new(), Outlet::new());
    let (marker, _its) = (one.push(&reader, 0, 100), other.push(&reader, 0, 100));
    assert!(other.next(&due(&[&marker])).is_err(), "another connection's");
}

#[test]
fn segments_are_sent_piece_by_piece_and_each_byte_is_right() {
    let content = content(3_000_000);
    let (_dir, reader, _) = object(&content);
    let (ours, mut theirs) = sockets();
    let outlet = Outlet::new();
    let mut markers = VecDeque::from([outlet.push(&reader, 17, 1_000_000), outlet.push(&reader, 2_000_000, 777_777)]);
    let (mut got, mut full) = (Vec::new(), false);
    let mut buffer = vec![0u8; 50_000];
    while !markers.is_empty() {
        let slices: Vec<&[u8]> = markers.iter().map(|slice| &slice[..]).collect();
        assert_eq!(outlet.next(&due(&slices)).unwrap(), Next::Segment);
        match outlet.send(&ours) {
            Ok((sent, whole)) => {
                let front = markers.front_mut().unwrap();
                let _ = front.split_to(sent);
                assert_eq!(front.is_empty(), whole);
                if whole {
                    markers.pop_front();
                }
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                full = true;
                let read = theirs.read(&mut buffer).unwrap();
                got.extend_from_slice(&buffer[..read]);
            }
        }
    }
    assert!(full, "the socket took everything at once: nothing was sent in pieces");
    assert_eq!(outlet.next(&due(&[b"bytes"])).unwrap(), Next::Bytes);
    drop(ours);
    theirs.read_to_end(&mut got).unwrap();
    assert!(got == [&content[17..1_000_017], &content[2_000_000..2_777_777]].concat());
}

#[test]
fn a_file_that_became_shorter_ends_the_connection() {
    let content = content(100_000);
    let (_dir, reader, path) = object(&content);
    let (ours, mut theirs) = sockets();
    let outlet = Outlet::new();
    let marker = outlet.push(&reader, 0, 100_000);
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(40_960).unwrap();
    let mut sent = 0;
    let error = loop {
        assert_eq!(outlet.next(&due(&[&marker[sent..]])).unwrap(), Next::Segment);
        match outlet.send(&ours) {
            Ok((more, _)) => sent += more,
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), sent), (io::ErrorKind::UnexpectedEof, 40_960));
    assert!(outlet.next(&due(&[&marker[sent..]])).is_err());
    drop(ours);
    let mut got = Vec::new();
    theirs.read_to_end(&mut got).unwrap();
    assert!(got == content[..40_960]);
}

#[test]
fn reading_ahead_finds_what_is_missing() {
    let (_dir, reader, path) = object(&content(200_000));
    assert!(reader.warm(0, 200_000).unwrap());
    assert!(reader.is_warm(0, 200_000) && reader.is_warm(199_999, 1) && reader.is_warm(0, 0));
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(150_000).unwrap();
    assert!(!reader.is_warm(100_000, 100_000));
    assert!(matches!(reader.warm(100_000, 100_000), Err(Error::Damaged(_))));
}
