// A known live set: of each kind of object some are kept and some are dropped, then collections run.
//
// It talks as the C workloads do: `ready PID`, then at each line of input a phase, whose truths it
// prints before `settled`; the end of input ends it. Its first phase has no collection but those that it asks
// for, its second has goroutines whose stacks grow while collections come as they like.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
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
	nodes    []*node
	headers  []*header
	bytes    [][]byte
	larges   [][]byte
	tinies   []*[15]byte
	entries  [workers]map[string]*node
	deep     [workers][]*node
	sink     any
	begun    bool
	baseline runtime.MemStats
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
func site_entry() *node { return new(node) }

// Allocates where its stack is deep, and has grown on the way.
//
//go:noinline
func site_deep(depth int) *node {
	var room [200]byte
	room[depth%200] = byte(depth)
	if depth == 0 {
		return &node{data: [40]byte{room[0]}}
	}
	return site_deep(depth - 1)
}

//go:noinline
func churn(n int) {
	for i := 0; i < n; i++ {
		sink = strconv.Itoa(i) + "x"
	}
	sink = nil
}

func truth(function string, count int, slot int) {
	if count > 0 {
		fmt.Printf("truth {\"pid\":%d,\"function\":\"%s\",\"live_count\":%d,\"live_bytes\":%d}\n",
			os.Getpid(), function, count, count*slot)
	}
}

// All kinds of objects, one after the other.
func kinds() {
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
}

const workers, rounds = 20, 300

// Many goroutines, each of which keeps a third of what it makes.
func storm() {
	debug.SetGCPercent(20)
	var group sync.WaitGroup
	for i := 0; i < workers; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			entries[i] = make(map[string]*node)
			for round := 0; round < rounds; round++ {
				entry, low := site_entry(), site_deep(round%50)
				if round%3 == 0 {
					entries[i][strconv.Itoa(round)] = entry
					deep[i] = append(deep[i], low)
				}
				if i == 0 && round%30 == 0 {
					runtime.GC()
				}
				runtime.Gosched()
			}
		}(i)
	}
	group.Wait()
	debug.SetGCPercent(-1)
}

func phase() {
	if !begun {
		runtime.ReadMemStats(&baseline)
		kinds()
		allocateInC()
	} else {
		storm()
	}
	runtime.GC()
	runtime.GC()
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	fmt.Printf("stats {\"allocated\":%d,\"live\":%d,\"bytes\":%d,\"collections\":%d}\n", now.Mallocs-baseline.Mallocs,
		now.HeapObjects-baseline.HeapObjects, now.HeapAlloc-baseline.HeapAlloc, now.NumGC-baseline.NumGC)
	truth("main.site_node", len(nodes), 48)
	truth("main.site_header", len(headers), 1280)
	truth("main.site_bytes", len(bytes), 112)
	truth("main.site_large", len(larges), 106496)
	truth("main.site_tiny", len(tinies), 16)
	if begun {
		truth("main.site_entry", workers*rounds/3, 48)
		truth("main.site_deep", workers*rounds/3, 48)
	}
	truth("site_c", keptInC, sizeInC)
	begun = true
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
}
