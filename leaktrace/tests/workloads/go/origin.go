// The example of a text that says that a collector reclaims this: a goroutine fills a map for ever while main
// sleeps. The first argument is how often, where the text has a second.
package main

import (
	"fmt"
	"os"
	"time"
)

func leakyCache(period time.Duration) {
	cache := make(map[string][]byte)
	go func() {
		for {
			cache[time.Now().String()] = make([]byte, 1024)
			time.Sleep(period)
		}
	}()
}

func main() {
	period := time.Second
	if len(os.Args) > 1 {
		period, _ = time.ParseDuration(os.Args[1])
	}
	fmt.Println("ready", os.Getpid())
	leakyCache(period)
	time.Sleep(time.Hour)
}
