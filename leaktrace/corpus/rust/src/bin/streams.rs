//! Owns streams as in gRPC, a task for each: the client of one in forty goes on without reading to the end and
//! without dropping its half, and the sender waits for room for ever. Beside them streams that are read to their
//! end, and a pool of frames.

use std::cell::RefCell;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

const WINDOW_BYTES: usize = 1024;
const MESSAGE_BYTES: usize = 3072;

#[inline(never)]
fn message() -> Vec<u8> {
    vec![1; MESSAGE_BYTES] // LEAK: message of a stalled stream 15360 bytes/s
}

#[inline(never)]
fn read_message() -> Vec<u8> {
    vec![1; 2 * MESSAGE_BYTES] // INNOCENT: message that is read
}

async fn send(mut stream: DuplexStream, message: Vec<u8>) {
    stream.write_all(&message).await.unwrap(); // LEAK: window of a stalled stream 5120 bytes/s
}

async fn send_well(mut stream: DuplexStream, message: Vec<u8>) {
    stream.write_all(&message).await.unwrap(); // INNOCENT: window of a stream that is read
}

#[inline(never)]
fn frame() -> Vec<u8> {
    vec![0; 2048] // INNOCENT: pooled frame
}

fn main() {
    let (stalled, pool) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let (stalled, pool) = (&stalled, &pool);
    corpus::drive(|id| async move {
        let known = pool.borrow_mut().pop();
        let mut frame = known.unwrap_or_else(frame);
        if id % 40 == 0 {
            let (client, server) = duplex(WINDOW_BYTES); // LEAK: halves of a stalled stream 1000 bytes/s
            tokio::spawn(send(server, message())); // LEAK: sender of a stalled stream 16600 bytes/s
            stalled.borrow_mut().push(client); // EITHER: list of clients, which grows in steps
        } else {
            let (mut client, server) = duplex(WINDOW_BYTES); // INNOCENT: halves of a stream that is read
            tokio::spawn(send_well(server, read_message())); // INNOCENT: sender that ends
            while client.read(&mut frame).await.unwrap() > 0 {}
        }
        pool.borrow_mut().push(frame); // INNOCENT: pool
    });
}
