//! Owns connections over real sockets, of which every twentieth is never closed. Beside them a pool, and a server
//! task for each connection, which ends with it.

use std::cell::RefCell;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

type Connection = Box<BufReader<TcpStream>>;

#[inline(never)]
fn buffered(stream: TcpStream) -> Connection {
    Box::new(BufReader::with_capacity(2048, stream)) // LEAK: connection 20480 bytes/s
}

#[inline(never)]
fn pooled(stream: TcpStream) -> Connection {
    Box::new(BufReader::with_capacity(1024, stream)) // INNOCENT: pooled connection
}

async fn query(connection: &mut Connection) {
    connection.write_all(b"select").await.unwrap();
    let mut answer = [0; 6];
    connection.read_exact(&mut answer).await.unwrap();
}

/// Answers until its client is gone.
async fn answer(mut stream: TcpStream) {
    let mut request = vec![0; 512]; // LEAK: its other end 5120 bytes/s
    while let Ok(length @ 1..) = stream.read(&mut request).await {
        stream.write_all(&request[..length]).await.unwrap();
    }
}

fn main() {
    let (mut address, pool, open) = (None, RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let (pool, open) = (&pool, &open);
    corpus::drive(|id| {
        let known = address;
        address = address.or(Some(port()));
        let address = address.unwrap();
        async move {
            if known.is_none() {
                let listener = TcpListener::bind(("127.0.0.1", address)).await.unwrap();
                tokio::spawn(async move {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap(); // LEAK: accepted socket 2560 bytes/s
                        tokio::spawn(answer(stream)); // LEAK: task of its other end 2500 bytes/s
                    }
                });
            }
            if id % 20 == 0 {
                let stream = TcpStream::connect(("127.0.0.1", address)).await.unwrap(); // LEAK: socket 1000 bytes/s
                let mut connection = buffered(stream);
                query(&mut connection).await;
                open.borrow_mut().push(connection); // EITHER: list of the open, which grows in steps
            } else if id % 20 == 10 {
                let known = pool.borrow_mut().pop();
                let mut connection = match known {
                    Some(connection) => connection,
                    None => pooled(TcpStream::connect(("127.0.0.1", address)).await.unwrap()), // INNOCENT: pooled socket
                };
                query(&mut connection).await;
                pool.borrow_mut().push(connection);
            }
        }
    });
}

/// A port that was free a moment ago.
fn port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
