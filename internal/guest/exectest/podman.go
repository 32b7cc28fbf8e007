package exectest

// podmanDiffers is what came of running the whole table, with nothing left
// out, against podman 4.3.1 with runc 1.1.5 as Debian 12 has them: podman exec
// -i, as root, into a container of the default image whose first process is
// sleep. Another podman, and crun, may answer otherwise. Signals and clients
// that go away were not asked of it.
func podmanDiffers() map[string]string {
	const (
		list     = "the caller's own argument list has the same limit"
		terminal = "the caller's stdin is a terminal there too, and has no end"
	)
	return map[string]string{
		"not run/a script without #!":                    "it exits with 1",
		"not run/an empty file":                          "it exits with 1",
		"not run/an interpreter that is not there":       "it exits with 1",
		"not run/below a file":                           "it exits with 255",
		"not run/a loop of links":                        "it exits with 255",
		"not run/a name too long":                        "it exits with 255",
		"not run/one argument too long":                  list,
		"not run/too many arguments":                     list,
		"not run/too large an environment":               list,
		"PATH/only what cannot be run":                   "it exits with 127",
		"PATH/relative to the working directory":         "runc refuses what it finds relative to a directory: 255",
		"PATH/an empty element is the working directory": "runc refuses what it finds relative to a directory: 255",
		"argv/every byte but NUL":                        "bytes that are no UTF-8 arrive replaced",
		"argv/invalid UTF-8":                             "bytes that are no UTF-8 arrive replaced",
		"env/invalid UTF-8":                              "bytes that are no UTF-8 arrive replaced",
		"env/no TERM without a terminal":                 "TERM is xterm all the same",
		"background/goes on and may write":               "the child does not get to its end",
		"background/no zombies":                          "the container's first process reaps nothing",
		"tty/UTF-8":                                      "the terminal's iutf8 is off",
		"tty/not found":                                  "the caller's messages are on its terminal",
		"tty/the end of stdin is Ctrl-D":                 terminal,
		"user/the largest":                               "ids end at 2147483647",
		"user/unknown name":                              "it exits with 255",
		"user/unknown group":                             "it exits with 255",
		"user/too large a number":                        "it exits with 255",
		"user/starts in the home":                        "it starts in the container's working directory",
		"user/may not enter the directory":               "it enters the directory all the same",
		"user/may not run the file":                      "the file is run, and fails by itself",
		"user/may not reach the file":                    "the file is run",
		"workdir/missing":                                "it exits with 127",
		"workdir/a file":                                 "it exits with 255",
		"workdir/relative":                               "it exits with 255",
	}
}
