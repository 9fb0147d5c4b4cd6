// Makes objects when told, and tells what CPU time that took it.
//
// Its argument is the rate of its own memory profile, 0 for none. Each line on its input is a kind of object and how
// many; it answers with nanoseconds of CPU time of all its threads, its collector's included. The kind "goroutines"
// makes goroutines that wait for ever, "sites" objects of that many different sites.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
)

type node struct {
	next *node
	data [40]byte
}

const kept = 1 << 14

// What was made last is alive, so that collections have something to mark.
var (
	nodes    [kept]*node
	buffers  [kept][]byte
	numbers  [kept]*int64
	pages    [kept / 16][]byte
	retained []*node
	forever  = make(chan int)
)

func cpu() int64 {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return usage.Utime.Nano() + usage.Stime.Nano()
}

//go:noinline
func wait(depth int) {
	if depth > 0 {
		wait(depth - 1)
		return
	}
	<-forever
}

// Each way through these calls is a stack of its own.
//
//go:noinline
func way(path int, depth int) {
	switch {
	case depth == 0:
		retained = append(retained, new(node))
	case path%4 == 0:
		way(path/4, depth-1)
	case path%4 == 1:
		way(path/4, depth-1)
	case path%4 == 2:
		way(path/4, depth-1)
	default:
		way(path/4, depth-1)
	}
}

func makeAll(kind string, count int) {
	switch kind {
	case "node":
		for i := 0; i < count; i++ {
			nodes[i%kept] = new(node)
		}
	case "buffer":
		for i := 0; i < count; i++ {
			buffers[i%kept] = make([]byte, 100)
		}
	case "tiny":
		for i := 0; i < count; i++ {
			numbers[i%kept] = new(int64)
		}
	case "page":
		for i := 0; i < count; i++ {
			pages[i%(kept/16)] = make([]byte, 2048)
		}
	case "goroutines":
		for i := 0; i < count; i++ {
			go wait(5)
		}
	case "sites":
		for i := 0; i < count; i++ {
			way(i, 9)
		}
	default:
		panic(kind)
	}
}

func main() {
	runtime.MemProfileRate, _ = strconv.Atoi(os.Args[1])
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var kind string
		var count int
		fmt.Sscan(in.Text(), &kind, &count)
		before := cpu()
		makeAll(kind, count)
		fmt.Println(cpu() - before)
	}
}
