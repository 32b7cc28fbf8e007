package cli

import (
	"archive/tar"
	"bytes"
	"os"
	"strings"
	"testing"

	"banger.dev/banger"
)

func TestCp(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("web", banger.StateRunning)
	w.add("db", banger.StateStopped)
	here, there := t.TempDir(), t.TempDir()
	if err := os.WriteFile(here+"/a:b", []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.run("cp", here+"/a:b", "web:"+there).want(t, 0, "", "")
	w.run("vm", "cp", "web:"+there+"/a:b", here+"/back").want(t, 0, "", "")
	if content, err := os.ReadFile(here + "/back"); err != nil || string(content) != "content" {
		t.Errorf("%q, %v", content, err)
	}
	w.run("cp", "-o", "json", here+"/back", "web:"+there).want(t, 0, "{\n  \"entries\": 1,\n  \"bytes\": 7,\n  \"left_out\": 0\n}\n", "")

	got := w.run("cp", "web:"+there+"/a:b", "-")
	hdr, err := tar.NewReader(strings.NewReader(got.stdout)).Next()
	if err != nil || hdr.Name != "a:b" || got.code != 0 {
		t.Errorf("%+v, %v, %d %s", hdr, err, got.code, got.stderr)
	}
	var b bytes.Buffer
	out := tar.NewWriter(&b)
	_ = out.WriteHeader(&tar.Header{Name: "from-stdin", Typeflag: tar.TypeReg, Mode: 0o600})
	_ = out.Close()
	w.runWith(b.String(), "cp", "-", "web:"+there).want(t, 0, "", "")
	if _, err := os.Stat(there + "/from-stdin"); err != nil {
		t.Error(err)
	}

	w.run("cp", here+"/no", "web:"+there).want(t, 3, "", "banger: "+here+"/no: no such file or directory\n")
	w.run("cp", "web:"+there+"/no", here).want(t, 3, "", "banger: web:"+there+"/no is not there\n")
	w.run("cp", here, "web:"+there+"/a:b").want(t, 4, "", "banger: web:"+there+"/a:b is a file, and a directory cannot be copied to it\n")
	w.run("cp", here, "db:/x").want(t, 4, "", "banger: db is stopped; try: banger vm start db\n")
	w.run("cp", here, "nosuch:/x").want(t, 3, "", "banger: there is no VM \"nosuch\"; try: banger vm list\n")
}
