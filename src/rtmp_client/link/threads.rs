//! A link under threads of their own: sound and pictures come on theirs, the rest is sent on the task's, and others look on.

use std::{io::Read as _, net::TcpListener};

use bytes::Bytes;
use tokio::runtime::Builder;

use super::*;
use crate::{
    flv::{Tag, TagType},
    rtmp_client::{reader::Reader, writer},
};

const TAGS: u32 = 1500;

/// Larger than a socket takes at once, every now and then.
fn tag(kind: TagType, number: u32) -> SharedTag {
    let data = Bytes::from(vec![number as u8; 1 + (number as usize * 7919) % 30_000]);
    Tag::new(kind, number, 5).put(&number.to_be_bytes()).finish_around(&data).unwrap()
}

/// What a server makes of it: the numbers of sound and of pictures, in the order of their coming.
fn receive(mut server: std::net::TcpStream) -> [Vec<u32>; 2] {
    // Where the other end fails it does not hang up.
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut reader = Reader::default();
    reader.set_chunk_size(writer::CHUNK_SIZE as u32).unwrap();
    let mut numbers = [Vec::new(), Vec::new()];
    let mut buffer = vec![0; 20_000];
    loop {
        let count = server.read(&mut buffer).unwrap();
        if count == 0 {
            return numbers;
        }
        let mut bytes = &buffer[..count];
        while let Some(message) = reader.read(&mut bytes).unwrap() {
            let (number, data) = message.body.split_first_chunk().unwrap();
            let number = u32::from_be_bytes(*number);
            assert!(data.iter().all(|byte| *byte == number as u8), "tag {number} is torn");
            numbers[usize::from(message.kind == TagType::Video as u8)].push(number);
        }
    }
}

#[test]
fn tags_of_several_threads_come_out_whole_and_in_each_ones_order() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let stream = runtime.block_on(TcpStream::connect(listener.local_addr().unwrap())).unwrap();
    let (server, _) = listener.accept().unwrap();
    let written = Arc::new(AtomicU64::new(0));
    let link = Link::new(stream, None, written.clone());
    link.go_live(1);
    let received = std::thread::scope(|scope| {
        let server = scope.spawn(move || receive(server));
        let link = &link;
        let pushing: Vec<_> = [TagType::Audio, TagType::Video]
            .into_iter()
            .map(|kind| scope.spawn(move || (0..TAGS).for_each(|number| link.push([tag(kind, number)]))))
            .collect();
        let all_pushed = || pushing.iter().all(|thread| thread.is_finished());
        runtime.block_on(async {
            // As the connection's task does it: what was left over, until there is no more.
            while !all_pushed() || link.has_queued() {
                tokio::select! {
                    () = link.writable() => { link.send(); }
                    () = tokio::task::yield_now() => assert!(link.lag(Instant::now()) < Duration::MAX),
                }
                assert_eq!(link.failure(), None);
            }
        });
        link.shut();
        server.join().unwrap()
    });
    let expected: Vec<u32> = (0..TAGS).collect();
    assert_eq!(received, [expected.clone(), expected]);
    let sizes: u64 = (0..TAGS).map(|number| tag(TagType::Audio, number).data.len() as u64 + 4).sum();
    assert!(written.load(Ordering::Relaxed) > 2 * sizes, "what was written is counted");
}
