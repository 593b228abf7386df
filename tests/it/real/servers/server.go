// Serves a folder as Go's standard library does, for the tests of the client.
//
//	server ADDRESS FOLDER etag|none
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

func main() {
	folder, validators := os.Args[2], os.Args[3]
	serve := func(w http.ResponseWriter, r *http.Request) {
		file, err := os.Open(filepath.Join(folder, filepath.Clean(r.URL.Path)))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		defer file.Close()
		modified := time.Time{}
		if validators == "etag" {
			info, err := file.Stat()
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			modified = info.ModTime()
			hash := sha256.New()
			io.Copy(hash, file)
			w.Header().Set("ETag", fmt.Sprintf("\"%x\"", hash.Sum(nil)))
		}
		http.ServeContent(w, r, file.Name(), modified, file)
	}
	log.Fatal(http.ListenAndServe(os.Args[1], http.HandlerFunc(serve)))
}
