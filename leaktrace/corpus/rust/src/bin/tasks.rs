//! Owns tasks that never end, which the compiler is said to reject: they own their data, wait for a sender that
//! lives for ever, and compile. Cycles of `Rc` too. Beside them tasks that end, and a tree with weak parents.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
};

use tokio::sync::mpsc;

/// A node that knows its parent by a strong reference, or by a weak one.
struct Node {
    _data: [u8; 240],
    strong: RefCell<Option<Rc<Node>>>,
    weak: RefCell<Weak<Node>>,
}

impl Node {
    #[inline(always)]
    fn new() -> Self {
        Self {
            _data: [1; 240],
            strong: RefCell::default(),
            weak: RefCell::default(),
        }
    }
}

#[inline(never)]
fn cycle() {
    let parent = Rc::new(Node::new()); // LEAK: parent in a cycle 5600 bytes/s
    let child = Rc::new(Node::new()); // LEAK: child in a cycle 5600 bytes/s
    *parent.strong.borrow_mut() = Some(child.clone());
    *child.strong.borrow_mut() = Some(parent);
}

#[inline(never)]
fn tree() {
    let parent = Rc::new(Node::new()); // INNOCENT: parent in a tree
    let child = Rc::new(Node::new()); // INNOCENT: child in a tree
    *child.weak.borrow_mut() = Rc::downgrade(&parent);
    *parent.strong.borrow_mut() = Some(child);
}

#[inline(never)]
fn share() -> Vec<u8> {
    vec![1; 1024] // LEAK: share of a task 20480 bytes/s
}

#[inline(never)]
fn short_share() -> Vec<u8> {
    vec![1; 512] // INNOCENT: share of a task that ends
}

async fn listen(mut orders: mpsc::Receiver<u8>, share: Vec<u8>) {
    while let Some(order) = orders.recv().await {
        std::hint::black_box(share[usize::from(order)]);
    }
}

fn main() {
    let senders = RefCell::new(Vec::new());
    let senders = &senders;
    corpus::drive(|id| async move {
        if id % 10 == 0 {
            let (sender, receiver) = mpsc::channel(4); // LEAK: channel of a task 11520 bytes/s
            tokio::spawn(listen(receiver, share())); // LEAK: task 25500 bytes/s
            senders.borrow_mut().push(sender); // EITHER: list of senders, which grows in steps
            cycle();
        } else {
            let (sender, receiver) = mpsc::channel(4); // INNOCENT: channel of a task that ends
            tokio::spawn(listen(receiver, short_share())); // INNOCENT: task that ends
            sender.send(1).await.unwrap();
            tree();
        }
    });
}
