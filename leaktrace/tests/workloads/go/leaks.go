// A service that leaks in the ways that services in Go do, and does the same things rightly beside each.
//
// It talks as the C workloads do; a phase serves some requests. Comments tell at which line what is kept is
// made (LEAK), and at which what is given up again (INNOCENT).
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
)

// How often each is done in a phase.
const requests = 200

type session struct {
	id   int
	data [100]byte
}

type service struct {
	url      string
	running  context.Context
	sessions map[int]*session
	recent   [16]*session
	titles   [][]byte
	last     []byte
	next     int
}

// Who does not close a body keeps its connection, with all that belongs to it.
func (s *service) fetchAndForget(client *http.Client) {
	response, err := client.Get(s.url) // LEAK: unclosed response bodies
	if err != nil {
		panic(err)
	}
	_ = response
}

func (s *service) fetchAndClose(client *http.Client) {
	response, err := client.Get(s.url) // INNOCENT: closed response bodies
	if err != nil {
		panic(err)
	}
	io.Copy(io.Discard, response.Body)
	response.Body.Close()
}

// A parent that runs on knows each child until it is canceled.
func (s *service) forgetCancel() {
	child, _ := context.WithCancel(s.running) // LEAK: forgotten cancel functions
	use(child)
}

func (s *service) callCancel() {
	child, cancel := context.WithCancel(s.running) // INNOCENT: cancel functions that are called
	use(child)
	cancel()
}

// A caller that gives up leaves behind who wants to answer it, with the answer.
func (s *service) query(answers chan []byte) {
	answer := make([]byte, 2048) // LEAK: blocked senders
	answers <- answer
}

func (s *service) queryInTime(answers chan []byte) {
	answer := make([]byte, 2048) // INNOCENT: senders that are heard
	answers <- answer
}

func (s *service) login() {
	s.sessions[s.next] = &session{id: s.next} // LEAK: a map that only grows
	s.next++
}

func (s *service) visit() {
	s.recent[s.next%len(s.recent)] = &session{id: s.next} // INNOCENT: the last few
	s.next++
}

func load() []byte {
	return make([]byte, 20000) // LEAK: a large array behind a small slice
}

func (s *service) title() {
	document := load()
	s.titles = append(s.titles, document[:16])
}

func loadOther() []byte {
	return make([]byte, 20000) // INNOCENT: a large array of which a part is copied
}

func (s *service) copiedTitle() {
	document := loadOther()
	s.last = append([]byte(nil), document[:16]...)
}

//go:noinline
func use(context.Context) {}

func (s *service) serve() {
	forgetful := &http.Client{Transport: &http.Transport{}}
	orderly := &http.Client{Transport: &http.Transport{}}
	for i := 0; i < requests; i++ {
		s.fetchAndForget(forgetful)
		s.fetchAndClose(orderly)
		s.forgetCancel()
		s.callCancel()
		go s.query(make(chan []byte))
		answers := make(chan []byte)
		go s.queryInTime(answers)
		<-answers
		s.login()
		s.visit()
		s.title()
		s.copiedTitle()
	}
	orderly.CloseIdleConnections()
}

func listen() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	content := strings.Repeat("what the server says\n", 1000)
	handler := func(writer http.ResponseWriter, _ *http.Request) { io.WriteString(writer, content) }
	go http.Serve(listener, http.HandlerFunc(handler))
	return "http://" + listener.Addr().String()
}

func main() {
	running, stop := context.WithCancel(context.Background())
	defer stop()
	s := &service{url: listen(), running: running, sessions: make(map[int]*session)}
	in := bufio.NewReader(os.Stdin)
	fmt.Println("ready", os.Getpid())
	for {
		if _, err := in.ReadString('\n'); err != nil {
			break
		}
		s.serve()
		runtime.GC()
		runtime.GC()
		fmt.Println("settled")
	}
	runtime.KeepAlive(s)
}
