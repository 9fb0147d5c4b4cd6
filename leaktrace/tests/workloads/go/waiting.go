// A program that knows its own truth: goroutines that wait for ever, and a memory profile.
//
// It says "ready PID", and answers each line on its input: "goroutines" with how many there are, "profile"
// with the first line of its own memory profile, "turn" by letting the looping goroutine run once, "leak" by making
// buffers from then on that it keeps.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"
)

// The numbers that the test expects.
const (
	senders   = 100
	receivers = 7
	lockers   = 3
)

type node struct {
	next *node
	data [40]byte
}

var (
	nodes []*node
	bufs  [][]byte
	turns = make(chan int)
	mutex sync.Mutex
)

//go:noinline
func send(results chan int) { results <- 1 }

//go:noinline
func receive(jobs chan int) { <-jobs }

//go:noinline
func lock() { mutex.Lock() }

// A loop that waits at one place and is not stuck there.
//
//go:noinline
func loop(answers chan int) {
	for turn := range turns {
		answers <- turn
	}
}

//go:noinline
func makeWaiters() {
	results, jobs := make(chan int), make(chan int)
	for i := 0; i < senders; i++ {
		go send(results)
	}
	for i := 0; i < receivers; i++ {
		go receive(jobs)
	}
	mutex.Lock()
	for i := 0; i < lockers; i++ {
		go lock()
	}
}

//go:noinline
func grow(count int) {
	for i := 0; i < count; i++ {
		nodes = append(nodes, &node{})
		bufs = append(bufs, make([]byte, 4096))
	}
}

//go:noinline
func leak() {
	for {
		bufs = append(bufs, make([]byte, 4096))
		time.Sleep(time.Millisecond)
	}
}

// Waits until the goroutines got to where they stay.
func settle() {
	for {
		var stacks bytes.Buffer
		pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		found := 0
		for _, name := range []string{"main.send+", "main.receive+", "main.lock+", "main.loop+"} {
			if bytes.Contains(stacks.Bytes(), []byte(name)) {
				found++
			}
		}
		if found == 4 && bytes.Contains(stacks.Bytes(), []byte(fmt.Sprintf("%d @", senders))) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func main() {
	makeWaiters()
	answers := make(chan int)
	go loop(answers)
	grow(10000)
	settle()
	runtime.GC()
	runtime.GC()
	fmt.Println("ready", os.Getpid())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "goroutines":
			fmt.Println("goroutines", runtime.NumGoroutine())
		case "profile":
			var profile bytes.Buffer
			pprof.Lookup("heap").WriteTo(&profile, 1)
			line, _ := profile.ReadString('\n')
			fmt.Print(line)
		case "leak":
			go leak()
		case "turn":
			turns <- 1
			fmt.Println("turned", <-answers)
		}
	}
}
