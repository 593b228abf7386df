// Go's net/http with ServeContent: prints its port, and serves one file until standard input ends.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/track/bench", func(w http.ResponseWriter, r *http.Request) {
		file, err := os.Open(os.Args[1])
		if err != nil {
			http.Error(w, "cannot open", http.StatusInternalServerError)
			return
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			http.Error(w, "cannot stat", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "audio/flac")
		http.ServeContent(w, r, "", info.ModTime(), file)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go http.Serve(listener, nil)
	io.Copy(io.Discard, os.Stdin)
}
