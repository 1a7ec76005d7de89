//! Fifty clients that push until the server goes away, and remember what it promised them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::support::http::Endpoint;
use crate::support::oci::{Image, OCI_MANIFEST, fresh, noise, path_of, with_query};
use crate::support::{Call, Reply, Server, sha256};

const CLIENTS: usize = 50;

/// What one client was promised.
#[derive(Debug, Default)]
struct Promises {
    /// Digest and bytes of each blob that was answered with 201.
    blobs: Vec<(String, Vec<u8>)>,
    /// Tag and bytes of each manifest that was answered with 201.
    manifests: Vec<(String, Vec<u8>)>,
    /// Of the upload under way: its path, its bytes, and how many of them were acknowledged.
    pending: Option<(String, Vec<u8>, usize)>,
}

pub(crate) struct Traffic {
    token: String,
    stop: Arc<AtomicBool>,
    /// What is answered is no promise any more.
    dark: Arc<AtomicBool>,
    clients: Vec<JoinHandle<(usize, Promises)>>,
}

fn repository(client: usize) -> String {
    format!("main/r{}", client % 10)
}

impl Traffic {
    /// Starts pushing.
    pub(crate) fn start(server: &Server) -> Self {
        let scopes: Vec<String> =
            (0..10).map(|number| format!("repository:{}:pull,push", repository(number))).collect();
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let token = server.token(crate::support::server::ADMIN, crate::support::server::ADMIN_PASSWORD, &scopes);
        let (stop, dark) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let registry = server.registry();
        let clients = (0..CLIENTS)
            .map(|number| {
                let (registry, token) = (registry.clone(), token.clone());
                let (stop, dark) = (Arc::clone(&stop), Arc::clone(&dark));
                std::thread::spawn(move || {
                    let mut promises = Promises::default();
                    // The first refused or broken request ends this client.
                    let _ = push_until(&registry, &token, number, &stop, &dark, &mut promises);
                    (number, promises)
                })
            })
            .collect();
        Self { token, stop, dark, clients }
    }

    /// To be called just before the power is cut: what is answered from now on is no promise, as a machine without power
    /// answers nobody. Here the server lives a little longer, and ext4 that was shut down tells an fdatasync that came late to
    /// its journal's transaction that all is well, though the transaction is thrown away.
    pub(crate) fn power_goes(&self) {
        self.dark.store(true, Ordering::SeqCst);
    }

    /// Ends the clients; to be called once the server is gone.
    pub(crate) fn stop(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let promises =
            self.clients.into_iter().map(|client| client.join().expect("a client that does not panic")).collect();
        Outcome { token: self.token, promises }
    }
}

fn push_until(
    registry: &Endpoint,
    token: &str,
    client: usize,
    stop: &AtomicBool,
    dark: &AtomicBool,
    promises: &mut Promises,
) -> Option<()> {
    let name = repository(client);
    let accepted = |call: Call, status: u16| -> Option<Reply> {
        let reply = call.bearer(token).try_send(registry).ok()?;
        (reply.status == status && !dark.load(Ordering::SeqCst)).then_some(reply)
    };
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        let image = Image::new(fresh(), 1000 + (client * 7919 + round * 104_729) % 400_000);
        for bytes in [&image.layer, &image.config] {
            let started = accepted(Call::post(format!("/v2/{name}/blobs/uploads/")), 202)?;
            let mut path = path_of(started.header("location")?);
            for (number, chunk) in bytes.chunks(64 << 10).enumerate() {
                let offset = number * (64 << 10);
                promises.pending = Some((path.clone(), bytes.clone(), offset));
                let range = format!("{offset}-{}", offset + chunk.len() - 1);
                let reply = accepted(Call::patch(&path).header("Content-Range", range).body(chunk), 202)?;
                path = path_of(reply.header("location")?);
                promises.pending = Some((path.clone(), bytes.clone(), offset + chunk.len()));
            }
            let digest = sha256(bytes);
            accepted(Call::put(with_query(&path, &format!("digest={digest}"))), 201)?;
            promises.pending = None;
            promises.blobs.push((digest, bytes.clone()));
        }
        let tag = format!("c{client}-{round}");
        let target = format!("/v2/{name}/manifests/{tag}");
        accepted(Call::put(target).header("Content-Type", OCI_MANIFEST).body(image.manifest.clone()), 201)?;
        promises.manifests.push((tag, image.manifest));
        round += 1;
    }
    Some(())
}

/// All that the clients were promised.
pub(crate) struct Outcome {
    token: String,
    promises: Vec<(usize, Promises)>,
}

impl Outcome {
    /// Checks every promise against the server that came back, and finishes what was under way.
    pub(crate) fn check(&self, server: &Server) {
        let registry = server.registry();
        let get = |path: String| Call::get(path).bearer(&self.token).send(&registry);
        let (mut blobs, mut manifests, mut resumed) = (0, 0, 0);
        for (client, promises) in &self.promises {
            let name = repository(*client);
            for (digest, bytes) in &promises.blobs {
                let found = get(format!("/v2/{name}/blobs/{digest}"));
                assert!(found.status == 200 && found.body == *bytes, "{name} {digest}: {}", found.status);
                blobs += 1;
            }
            for (tag, bytes) in &promises.manifests {
                let found = get(format!("/v2/{name}/manifests/{tag}"));
                assert!(found.status == 200 && found.body == *bytes, "{name}:{tag}: {}", found.status);
                manifests += 1;
            }
            if let Some((path, bytes, acknowledged)) = &promises.pending {
                resumed += usize::from(self.resume(&registry, &name, path, bytes, *acknowledged));
            }
        }
        println!("{blobs} blobs and {manifests} manifests were promised and are there; {resumed} uploads went on");
        assert!(manifests > 0, "nothing was promised before the end: give it longer");
        server.run(&["verify"]);
    }

    /// Goes on where the server says; false if it had closed the upload without saying so.
    fn resume(&self, registry: &Endpoint, name: &str, path: &str, bytes: &[u8], acknowledged: usize) -> bool {
        let digest = sha256(bytes);
        let status = Call::get(path).bearer(&self.token).send(registry);
        if status.status == 404 {
            // Only the answer to the closing PUT was lost.
            let found = Call::get(format!("/v2/{name}/blobs/{digest}")).bearer(&self.token).send(registry);
            assert!(found.status == 200 && found.body == bytes, "upload {path} is gone: {}", found.status);
            return false;
        }
        assert_eq!(status.status, 204, "{}", status.text());
        let last: usize = status.header("range").unwrap().trim_start_matches("0-").parse().unwrap();
        let held = if last == 0 { 0 } else { last + 1 };
        assert!(held >= acknowledged, "{held} bytes are held, {acknowledged} were acknowledged");
        let target = with_query(path, &format!("digest={digest}"));
        let call = Call::put(target).bearer(&self.token);
        let call = if held < bytes.len() {
            call.header("Content-Range", format!("{held}-{}", bytes.len() - 1)).body(&bytes[held..])
        } else {
            call
        };
        call.send(registry).expect(201);
        true
    }
}

/// A push that works, to see that the server is well.
pub(crate) fn works(server: &Server) {
    let token = server.admin_token("main/works");
    let bytes = noise(fresh(), 100_000);
    crate::support::oci::push_blob(&server.registry(), "main/works", &token, &bytes);
}
