package host

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"unsafe" // want `runtime: with package unsafe addresses become values`
)

func forbidden(v reflect.Value, f *os.File) {
	_ = os.Getenv("X")         // want `env: os.Getenv`
	_, _ = os.LookupEnv("X")   // want `env: os.LookupEnv`
	_ = os.Args                // want `env: os.Args`
	_, _ = os.Hostname()       // want `env: os.Hostname`
	_ = os.Getpid()            // want `env: os.Getpid`
	_, _ = os.ReadFile("x")    // want `io: os.ReadFile`
	_, _ = os.Open("x")        // want `io: os.Open`
	fmt.Fprintln(os.Stdout)    // want `io: os.Stdout`
	fmt.Println()              // want `io: fmt.Println`
	log.Print()                // want `io: log.Print`
	_ = exec.Command("x")      // want `io: exec.Command`
	_, _ = net.Dial("", "")    // want `io: net.Dial`
	_, _ = filepath.Glob("*")  // want `io: filepath.Glob`
	_ = runtime.NumCPU()       // want `runtime: runtime.NumCPU`
	_ = runtime.NumGoroutine() // want `runtime: runtime.NumGoroutine`
	_ = v.Pointer()            // want `runtime: reflect.Value.Pointer`
	_ = v.MapKeys()            // want `maprange: reflect.Value.MapKeys`
	_ = v.MapRange()           // want `maprange: reflect.Value.MapRange`
	_ = fmt.Sprintf("%p", f)   // want `runtime: %p prints an address`
	_ = unsafe.Sizeof(1)
}

func allowed(w io.Writer, v reflect.Value, err error) {
	_ = errors.Is(err, os.ErrNotExist)
	_ = os.IsNotExist(err)
	_ = os.FileMode(0o600) | os.ModeDir
	fmt.Fprintln(w, "x")
	_ = fmt.Sprintf("%d %s", 1, map[string]int{})
	_ = strings.ReplaceAll("%p", "", "")
	_ = filepath.Join("a", "b")
	_ = net.ParseIP("::1")
	_ = net.JoinHostPort("", "")
	_ = v.Len()
	runtime.KeepAlive(v)
}
