// Thousands of goroutines whose stacks grow while they allocate; each verifies what it made, and a
// wrong result ends the program with a failure.
package main

import (
	"bufio"
	"fmt"
	"os"
	"sync"
)

type link struct {
	next  *link
	value int
}

//go:noinline
func deep(depth int, value int) *link {
	var room [128]byte
	room[depth%128] = byte(value)
	if depth == 0 {
		return &link{value: int(room[0]) - int(room[0]) + value}
	}
	return &link{next: deep(depth-1, value), value: value}
}

func verify(list *link, length int, value int) bool {
	count := 0
	for ; list != nil; list = list.next {
		if list.value != value {
			return false
		}
		count++
	}
	return count == length
}

func round() bool {
	var group sync.WaitGroup
	results := make(chan bool, 2000)
	for i := 0; i < 2000; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			depth := 10 + i%90
			results <- verify(deep(depth, i), depth+1, i)
		}(i)
	}
	group.Wait()
	close(results)
	for result := range results {
		if !result {
			return false
		}
	}
	return true
}

func main() {
	in := bufio.NewReader(os.Stdin)
	fmt.Println("ready", os.Getpid())
	for {
		if _, err := in.ReadString('\n'); err != nil {
			return
		}
		if !round() {
			fmt.Fprintln(os.Stderr, "a list is not what was made")
			os.Exit(1)
		}
		fmt.Println("settled")
	}
}
