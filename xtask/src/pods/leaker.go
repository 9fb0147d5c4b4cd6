// Command leaker keeps 2 KiB 200 times a second, for ten minutes.
package main

import "time"

var kept [][]byte

//go:noinline
func keepForever() { kept = append(kept, make([]byte, 2048)) }

func main() {
	for range 120000 {
		keepForever()
		time.Sleep(5 * time.Millisecond)
	}
}
