// Owns goroutines that never end: streams whose sender is blocked for ever because no one receives any more, each
// with its buffer. Beside them workers that end, and a sawtooth.
package main

import "corpus/load"

const bufferBytes, batch = 2 << 10, 2000

type message struct{ text [64]byte }

var pending []*message

// A sender that outlives its receiver, who went away on a timeout.
func stream(id int) {
	results := make(chan []byte) // LEAK: channel of a stream 1920 bytes/s
	go send(results, id)         // LEAK: goroutine of a stream 51000 bytes/s
}

func send(results chan<- []byte, id int) {
	buffer := make([]byte, bufferBytes) // LEAK: buffer of a stream 40960 bytes/s
	buffer[0] = byte(id)
	results <- buffer
}

// The same with a receiver. The runtime uses the records of goroutines and of their waits again: those made here are
// in the end held by streams that never end.
func streamWell(id int) byte {
	results := make(chan []byte) // INNOCENT: channel that is received from
	go sendWell(results, id)     // EITHER: goroutine that ends
	return (<-results)[0]        // EITHER: wait of a receiver
}

func sendWell(results chan<- []byte, id int) {
	buffer := make([]byte, bufferBytes) // INNOCENT: buffer that is received
	buffer[0] = byte(id)
	results <- buffer // EITHER: wait of a sender
}

// A batch that is sent off every ten seconds.
func collect(id int) {
	pending = append(pending, &message{}) // INNOCENT: batch
	if len(pending) == batch {
		pending = nil
	}
}

func serve(id int) {
	if id%10 == 0 {
		stream(id)
	} else {
		streamWell(id)
	}
	collect(id)
}

func main() { load.Drive(serve) }
