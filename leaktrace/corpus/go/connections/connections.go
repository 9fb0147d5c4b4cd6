// Owns unclosed response bodies: each holds its connection, both of its buffers and two goroutines on the
// client's side, and on the server's side as much. Beside it a client that closes them, and so uses its
// connection again.
//
// Most of what leaks is made by goroutines of the library's own, whose stacks begin there:
// LEAKS WITH: net/http.
package main

import (
	"corpus/load"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

const forgetsOneIn = 20

func fetch(client *http.Client, url string) *http.Response {
	response, err := client.Get(url) // LEAK: unclosed body 16500 bytes/s
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return response
}

func fetchWell(client *http.Client, url string) {
	response, err := client.Get(url) // EITHER: closed body, whose wait may need a new record where a leak holds the old
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	io.Copy(io.Discard, response.Body)
	response.Body.Close()
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	handler := http.HandlerFunc(func(writer http.ResponseWriter, _ *http.Request) {
		writer.Write(make([]byte, 8<<10)) // EITHER: page, for clients of both kinds
	})
	server := &http.Server{Handler: handler}
	go server.Serve(listener)
	url := "http://" + listener.Addr().String()
	leaky := &http.Client{Transport: &http.Transport{}}
	careful := &http.Client{Transport: &http.Transport{}}
	load.Drive(func(id int) {
		if id%forgetsOneIn == 0 {
			fetch(leaky, url)
		} else if id%forgetsOneIn == 10 {
			fetchWell(careful, url)
		}
	})
}
