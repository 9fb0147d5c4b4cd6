// A known live set: of each kind of object some are kept and some are dropped, then collections run.
//
// It talks as the C workloads do: `ready PID`, then at each line of input a phase, whose truths it
// prints before `settled`; the end of input ends it.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
)

type node struct {
	next *node
	data [40]byte
}

type header struct {
	p    *node
	data [1200]byte
}

var (
	nodes   []*node
	headers []*header
	bytes   [][]byte
	larges  [][]byte
	tinies  []*[15]byte
	sink    any
)

//go:noinline
func site_node() *node { return new(node) }

//go:noinline
func site_header() *header { return new(header) }

//go:noinline
func site_bytes() []byte { return make([]byte, 100) }

//go:noinline
func site_large() []byte { return make([]byte, 100000) }

// So large that no two share a slot, so that its truth is known.
//
//go:noinline
func site_tiny() *[15]byte { return new([15]byte) }

//go:noinline
func churn(n int) {
	for i := 0; i < n; i++ {
		sink = strconv.Itoa(i) + "x"
	}
	sink = nil
}

func truth(function string, count int, slot int) {
	fmt.Printf("truth {\"pid\":%d,\"function\":\"main.%s\",\"live_count\":%d,\"live_bytes\":%d}\n",
		os.Getpid(), function, count, count*slot)
}

func phase() {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := 0; i < 3000; i++ {
		n, h, b, t := site_node(), site_header(), site_bytes(), site_tiny()
		if i%3 == 0 {
			nodes = append(nodes, n)
		}
		if i%5 == 0 {
			headers = append(headers, h)
		}
		if i%4 == 0 {
			bytes = append(bytes, b)
		}
		if i%10 == 0 {
			larges = append(larges, site_large())
		}
		if i%16 == 0 {
			tinies = append(tinies, t)
		}
	}
	churn(20000)
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	fmt.Printf("stats {\"allocated\":%d,\"live\":%d,\"bytes\":%d}\n", after.Mallocs-before.Mallocs,
		after.HeapObjects-before.HeapObjects, after.HeapAlloc-before.HeapAlloc)
	truth("site_node", len(nodes), 48)
	truth("site_header", len(headers), 1280)
	truth("site_bytes", len(bytes), 112)
	truth("site_large", len(larges), 106496)
	truth("site_tiny", len(tinies), 16)
	fmt.Println("settled")
}

func main() {
	in := bufio.NewReader(os.Stdin)
	fmt.Println("ready", os.Getpid())
	for {
		if _, err := in.ReadString('\n'); err != nil {
			break
		}
		phase()
	}
	runtime.KeepAlive(nodes)
	runtime.KeepAlive(headers)
	runtime.KeepAlive(bytes)
	runtime.KeepAlive(larges)
	runtime.KeepAlive(tinies)
}
