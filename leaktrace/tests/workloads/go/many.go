// So many objects of known kinds that estimates of them can be held against the truth. Nothing in it reads a
// memory profile, so that it has none.
//
// It talks as the C workloads do: `ready PID`, then at each line of input a phase, whose truths it prints before
// `settled`; the end of input ends it. What is made next, and whether it is kept, is random.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
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

const kinds, workers, steps = 6, 2, 1000000

type worker struct {
	state uint64
	kept  [kinds][]any
	count [kinds]int
}

//go:noinline
func site_node() *node { return &node{} }

//go:noinline
func site_pair() *node { return &node{} }

//go:noinline
func site_bytes() *[100]byte { return new([100]byte) }

//go:noinline
func site_header() *header { return &header{} }

//go:noinline
func site_page() *[2048]byte { return new([2048]byte) }

//go:noinline
func site_large() *[100000]byte { return new([100000]byte) }

func (w *worker) random() uint64 {
	w.state ^= w.state << 13
	w.state ^= w.state >> 7
	w.state ^= w.state << 17
	return w.state
}

func (w *worker) work() {
	for i := 0; i < steps; i++ {
		random := w.random()
		var kind int
		var made any
		switch share := random % 10000; {
		case share < 3200:
			kind, made = 0, site_node()
		case share < 6400:
			kind, made = 1, site_pair()
		case share < 9600:
			kind, made = 2, site_bytes()
		case share < 9800:
			kind, made = 3, site_header()
		case share < 9998:
			kind, made = 4, site_page()
		default:
			kind, made = 5, site_large()
		}
		if random>>32&1 == 0 {
			w.kept[kind] = append(w.kept[kind], made)
			w.count[kind]++
		}
	}
}

func main() {
	names := [kinds]string{"node", "pair", "bytes", "header", "page", "large"}
	slots := [kinds]int{48, 48, 112, 1280, 2048, 106496}
	var all [workers]worker
	in := bufio.NewReader(os.Stdin)
	fmt.Println("ready", os.Getpid())
	for {
		if _, err := in.ReadString('\n'); err != nil {
			break
		}
		var before, now runtime.MemStats
		runtime.ReadMemStats(&before)
		var group sync.WaitGroup
		for i := range all {
			all[i].state += uint64(i)*0x9e3779b97f4a7c15 + uint64(os.Getpid())
			group.Add(1)
			go func(w *worker) {
				defer group.Done()
				w.work()
			}(&all[i])
		}
		group.Wait()
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&now)
		fmt.Printf("stats {\"allocated\":%d,\"live\":%d,\"bytes\":%d,\"collections\":%d}\n", now.Mallocs-before.Mallocs,
			now.HeapObjects-before.HeapObjects, now.HeapAlloc-before.HeapAlloc, now.NumGC-before.NumGC)
		for kind, name := range names {
			count := 0
			for i := range all {
				count += all[i].count[kind]
			}
			fmt.Printf("truth {\"pid\":%d,\"function\":\"main.site_%s\",\"live_count\":%d,\"live_bytes\":%d}\n",
				os.Getpid(), name, count, count*slots[kind])
		}
		fmt.Println("settled")
	}
	runtime.KeepAlive(&all)
}
