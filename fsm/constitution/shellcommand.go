package constitution

import (
	"path"
	"slices"
	"strings"
)

// pipeline shows a pipeline and looks into the commands that it runs in turn.
func (s *shell) pipeline(stages []stage, depth int) error {
	shown := make([]stage, 0, len(stages))
	for i, st := range stages {
		if value, ok := printed(stages[:i]); ok && i > 0 && runsArguments(st) {
			st.words = slices.Concat(st.words, wordsOf(value))
		}
		rest, err := s.prepare(st)
		if err != nil {
			return err
		}
		if len(rest.words) > 0 {
			shown = append(shown, rest)
		}
	}
	if err := s.emit(shown); err != nil {
		return err
	}
	for i, st := range shown {
		if err := s.recordWrites(st); err != nil {
			return err
		}
		if err := s.within(st, shown[:i], depth); err != nil {
			return err
		}
	}
	if n := len(shown); n > 0 && writesScript(shown[n-1]) && !shown[n-1].isHere {
		if text, ok := printed(shown); ok {
			return s.run(text, depth+1)
		}
	}
	return nil
}

// runsArguments reports whether a command takes words from its input.
func runsArguments(st stage) bool {
	return slices.ContainsFunc(st.words, func(w word) bool { return commandName(w.text) == "xargs" || commandName(w.text) == "parallel" })
}

// prepare takes from a command what stands before it, and notes assignments.
func (s *shell) prepare(st stage) (stage, error) {
	for len(st.words) > 0 {
		name, value, ok := assignment(st.words[0])
		if !ok {
			break
		}
		if err := s.assign(name, value); err != nil {
			return stage{}, err
		}
		st.words = st.words[1:]
	}
	st = stripped(argumentFile(st))
	if len(st.words) == 0 {
		return st, nil
	}
	if value, ok := s.lookup(aliasPrefix + st.words[0].text); ok {
		st.words = slices.Concat(wordsOf(value), st.words[1:])
		if st = stripped(st); len(st.words) == 0 {
			return st, nil
		}
	}
	first := st.words[0].text
	switch first {
	case "export", "declare", "local", "readonly", "typeset", "alias":
		prefix := ""
		if first == "alias" {
			prefix = aliasPrefix
		}
		for _, w := range st.words[1:] {
			if name, value, ok := assignment(w); ok {
				if err := s.assign(prefix+name, value); err != nil {
					return stage{}, err
				}
			}
		}
	case "for", "select":
		if len(st.words) > 3 && st.words[2].text == "in" {
			var list []string
			for _, w := range st.words[3:] {
				list = append(list, plain(w.text))
			}
			return st, s.assign(st.words[1].text, strings.Join(list, " "))
		}
	case "read":
		if n := len(st.words); st.isHere && n > 1 {
			return st, s.assign(st.words[n-1].text, st.here)
		}
	case "cd", "pushd":
		if len(st.words) > 1 {
			s.cwd = joinPath(s.cwd, plain(st.words[len(st.words)-1].text))
		}
	}
	st.words = slices.Clone(st.words)
	st.words[0].text = commandName(first)
	if c := st.words[0]; !c.quoted && !c.redir && (strings.HasPrefix(c.text, "$") || strings.ContainsAny(c.text, "?*")) {
		st.words = slices.Insert(st.words, 0, word{text: unknownCommand})
	}
	return st, nil
}

// aliasPrefix keeps aliases apart from variables.
const aliasPrefix = "alias "

func wordsOf(text string) []word {
	var words []word
	for _, f := range strings.Fields(text) {
		words = append(words, word{text: f})
	}
	return words
}

// argumentFile shows the file from which xargs -a reads as a redirection.
func argumentFile(st stage) stage {
	for i := 0; i+2 < len(st.words); i++ {
		if commandName(st.words[i].text) == "xargs" && (st.words[i+1].text == "-a" || st.words[i+1].text == "--arg-file") {
			st.words = slices.Concat(st.words, []word{{text: "<", redir: true}, st.words[i+2]})
			break
		}
	}
	return st
}

// unknownCommand stands before a command whose name is a variable, a substitution or
// a pattern of file names, and so cannot be told.
const unknownCommand = "??"

// assignment reads name=value.
func assignment(w word) (name, value string, ok bool) {
	name, value, ok = strings.Cut(w.text, "=")
	if !ok || name == "" || w.redir {
		return "", "", false
	}
	name = strings.TrimSuffix(name, "+")
	for i := range len(name) {
		if !isName(name[i], i == 0) {
			return "", "", false
		}
	}
	return name, plain(value), true
}

// commandName is a command without its path.
func commandName(text string) string {
	if i := strings.LastIndexByte(text, '/'); i >= 0 && i+1 < len(text) {
		text = text[i+1:]
	}
	return strings.TrimSuffix(text, ".exe")
}

// stripped takes away what runs the rest of a command as a command.
func stripped(st stage) stage {
	words := st.words
	for len(words) > 0 {
		n := prefixLen(words)
		if n == 0 {
			break
		}
		words = words[min(n, len(words)):]
	}
	st.words = words
	return st
}

// prefixLen is how many words stand before the command that they run.
func prefixLen(words []word) int {
	first := words[0].text
	if words[0].redir {
		return 0
	}
	if _, _, ok := assignment(words[0]); ok {
		return 1
	}
	switch commandName(first) {
	case "if", "then", "elif", "else", "do", "while", "until", "!", "{", "}", "fi", "done", "esac", "nohup", "builtin",
		"time", "setsid", "busybox", "toybox", "unbuffer", "caffeinate", "exec", "command":
		return 1 + flags(words[1:], "")
	case "sudo", "doas":
		return 1 + flags(words[1:], "ughpCDRTU")
	case "env":
		return 1 + flags(words[1:], "uCS")
	case "nice", "ionice":
		return 1 + flags(words[1:], "ncp")
	case "stdbuf":
		return 1 + flags(words[1:], "ioe")
	case "xargs":
		return 1 + flags(words[1:], "InPLdEas")
	case "strace", "ltrace":
		return 1 + flags(words[1:], "foepsu")
	case "watch":
		return 1 + flags(words[1:], "n")
	case "timeout":
		return 2 + flags(words[1:], "ks")
	case "chroot":
		return 2 + flags(words[1:], "")
	}
	return 0
}

// flags counts the words that begin with -, and the arguments of those in withArgument
// that stand alone.
func flags(words []word, withArgument string) int {
	n := 0
	for n < len(words) && strings.HasPrefix(words[n].text, "-") && len(words[n].text) > 1 {
		f := words[n].text
		n++
		if f == "--" {
			break
		}
		if len(f) == 2 && strings.IndexByte(withArgument, f[1]) >= 0 {
			n++
		}
	}
	return min(n, len(words))
}

func isShell(name string) bool {
	switch name {
	case "sh", "bash", "zsh", "dash", "ksh", "ash", "fish", "csh", "tcsh":
		return true
	}
	return false
}

func isInterpreter(name string) bool {
	for _, p := range []string{"python", "perl", "ruby", "node", "php", "lua", "deno", "bun", "osascript", "awk", "gawk", "pwsh", "powershell"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// within looks into what a command runs: before are the stages that it reads from.
func (s *shell) within(st stage, before []stage, depth int) error {
	name := commandName(st.words[0].text)
	switch {
	case name == "eval" || name == "source" || name == ".":
		if name == "eval" {
			if err := s.runJoined(st.words[1:], depth); err != nil {
				return err
			}
		}
		return s.runInner(st, depth)
	case name == "ssh":
		n := 1 + flags(st.words[1:], "ilpoFJLRDbcEeImOQSWw")
		if n+1 < len(st.words) {
			return s.runJoined(st.words[n+1:], depth)
		}
	case isInterpreter(name):
		return s.code(st, depth)
	}
	if rest := inContainer(name, st.words); len(rest) > 0 {
		if err := s.runWords(rest, depth); err != nil {
			return err
		}
	}
	if err := s.runInput(name, before, st, depth); err != nil {
		return err
	}
	return s.runShellArgument(st, depth)
}

// runInput runs what a command is given to run: a here document, or what the stage before it prints.
func (s *shell) runInput(name string, before []stage, st stage, depth int) error {
	switch {
	case isShell(name):
		if st.isHere {
			if err := s.run(st.here, depth+1); err != nil {
				return err
			}
		}
		if text, ok := printed(before); ok && len(before) > 0 {
			if err := s.run(text, depth+1); err != nil {
				return err
			}
		}
		return s.runInner(st, depth)
	case st.isHere && writesScript(st):
		return s.run(st.here, depth+1)
	case st.isHere && readsStatements(name):
		return s.emitText(name+" << ", st.here)
	}
	return nil
}

// readsStatements reports whether a command runs what it reads, in a language of its own.
func readsStatements(name string) bool {
	switch name {
	case "psql", "mysql", "mariadb", "sqlite3", "sqlcmd", "mongosh", "mongo", "redis-cli", "clickhouse-client", "duckdb", "sftp", "ftp":
		return true
	}
	return false
}

// runShellArgument finds sh -c text anywhere in a command.
func (s *shell) runShellArgument(st stage, depth int) error {
	for i := 0; i+2 < len(st.words); i++ {
		if !isShell(commandName(st.words[i].text)) && commandName(st.words[i].text) != "su" {
			continue
		}
		for j := i + 1; j+1 < len(st.words) && strings.HasPrefix(st.words[j].text, "-"); j++ {
			if f := st.words[j].text; strings.HasPrefix(f, "--") || !strings.HasSuffix(f, "c") {
				continue
			}
			return s.run(plain(st.words[j+1].text), depth+1)
		}
	}
	return nil
}

// inContainer is the command that docker exec and its like run.
func inContainer(name string, words []word) []word {
	at := slices.IndexFunc(words, func(w word) bool { return w.text == "exec" })
	if at < 0 {
		return nil
	}
	switch name {
	case "kubectl", "oc":
		if i := slices.IndexFunc(words, func(w word) bool { return w.text == "--" }); i >= 0 {
			return words[i+1:]
		}
	case "docker", "podman", "nerdctl", "docker-compose":
		rest := words[at+1:]
		if n := 1 + flags(rest, "uew"); n < len(rest) {
			return rest[n:]
		}
	}
	return nil
}

// runWords runs words as they are, without reading quotes again.
func (s *shell) runWords(words []word, depth int) error {
	if depth >= shellDepthMax {
		return errShellDepth
	}
	return s.pipeline([]stage{{words: words}}, depth+1)
}

func (s *shell) runJoined(words []word, depth int) error {
	parts := make([]string, 0, len(words))
	for _, w := range words {
		parts = append(parts, plain(w.text))
	}
	return s.run(strings.Join(parts, " "), depth+1)
}

// runInner shows what a shell is given by a substitution as piped into it.
func (s *shell) runInner(st stage, depth int) error {
	for _, w := range st.words {
		for _, inner := range w.inner {
			if err := s.run(inner+" | sh", depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// code shows what an interpreter is given, and the texts in it that may be commands.
func (s *shell) code(st stage, depth int) error {
	text := st.here
	for i := 1; i+1 < len(st.words); i++ {
		if f := st.words[i].text; strings.HasPrefix(f, "-") && !strings.HasPrefix(f, "--") || f == "--eval" || f == "eval" || f == "--command" {
			text += "\n" + plain(st.words[i+1].text)
		}
	}
	if len(st.words) > 1 && strings.HasSuffix(commandName(st.words[0].text), "awk") {
		text += "\n" + plain(st.words[1].text)
	}
	if strings.TrimSpace(text) == "" {
		return nil
	}
	if err := s.emitText("code ", text); err != nil {
		return err
	}
	if !runsCommands(text) {
		return nil
	}
	for _, literal := range quotedTexts(text) {
		if err := s.run(literal, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func runsCommands(code string) bool {
	for _, word := range []string{"system", "popen", "subprocess", "exec", "spawn", "check_call", "check_output", "shell_exec", "passthru", "`"} {
		if strings.Contains(code, word) {
			return true
		}
	}
	return false
}

// Quoted returns, a line each, the texts in quotes of a piece of code that runs
// commands, the texts of a list as one line; nothing of other code.
func Quoted(code string) (string, error) {
	if !runsCommands(code) {
		return "", nil
	}
	return strings.Join(quotedTexts(code), "\n"), nil
}

// quotedTexts are the texts in quotes of a piece of code; those of a list, such as
// ["rm", "-rf", "/"], come as one.
func quotedTexts(code string) []string {
	var found []string
	var line []byte // the last one, which may go on
	end := -1       // where it ended
	for i := 0; i < len(code); i++ {
		q := code[i]
		if q != '\'' && q != '"' && q != '`' {
			continue
		}
		j := i + 1
		for j < len(code) && code[j] != q {
			if code[j] == '\\' {
				j++
			}
			j++
		}
		j = min(j, len(code))
		text := code[min(i+1, j):j]
		if end >= 0 && strings.Trim(code[end:i], " ,[\n") == "" && strings.Contains(code[end:i], ",") {
			line = append(append(line, ' '), text...)
		} else {
			if end >= 0 {
				found = append(found, string(line))
			}
			line = append(line[:0], text...)
		}
		end = min(j+1, len(code))
		i = j
	}
	if end >= 0 {
		found = append(found, string(line))
	}
	return found
}

// writesScript reports whether a command writes what it is given into a shell script.
func writesScript(st stage) bool {
	for _, w := range st.words {
		if strings.HasSuffix(w.text, ".sh") || strings.HasSuffix(w.text, ".bash") {
			return true
		}
	}
	return false
}

// recordWrites notes the files that a command writes.
func (s *shell) recordWrites(st stage) error {
	if !s.wantWrites {
		return nil
	}
	var plainArgs []string // that are no options
	for i := 1; i < len(st.words); i++ {
		w := st.words[i]
		if w.redir {
			if w.text == ">" && i+1 < len(st.words) {
				if err := s.write(st.words[i+1].text); err != nil {
					return err
				}
			}
			i++
			continue
		}
		if !strings.HasPrefix(w.text, "-") {
			plainArgs = append(plainArgs, w.text)
		}
	}
	if st.words[0].redir && len(st.words) > 1 && st.words[0].text == ">" {
		return s.write(st.words[1].text)
	}
	for _, p := range writtenArguments(st, plainArgs) {
		if err := s.write(p); err != nil {
			return err
		}
	}
	return nil
}

func writtenArguments(st stage, args []string) []string {
	hasFlag := func(prefix string) bool {
		return slices.ContainsFunc(st.words, func(w word) bool { return strings.HasPrefix(w.text, prefix) })
	}
	after := func(names ...string) []string {
		for i := 1; i+1 < len(st.words); i++ {
			if slices.Contains(names, st.words[i].text) {
				return []string{st.words[i+1].text}
			}
		}
		return nil
	}
	switch st.words[0].text {
	case "tee", "touch", "mkdir", "rm", "rmdir", "unlink", "shred":
		return args
	case "truncate":
		return args[min(1, len(args)):]
	case "chmod", "chown", "chgrp":
		return args[min(1, len(args)):]
	case "cp", "mv", "ln", "install":
		if t := after("-t", "--target-directory"); t != nil {
			return t
		}
		if len(args) > 1 && !strings.Contains(args[len(args)-1], ":") {
			return args[len(args)-1:]
		}
	case "sed", "perl":
		if hasFlag("-i") || hasFlag("--in-place") {
			return args[min(1, len(args)):]
		}
	case "dd":
		for _, a := range args {
			if f, ok := strings.CutPrefix(a, "of="); ok {
				return []string{f}
			}
		}
	case "curl":
		return after("-o", "--output")
	case "wget":
		return after("-O", "--output-document")
	case "tar":
		return after("-C", "--directory")
	case "unzip":
		return after("-d")
	}
	return nil
}

func (s *shell) write(p string) error {
	p = plain(p)
	switch {
	case p == "" || p == "-" || strings.HasPrefix(p, "/dev/null") || strings.HasPrefix(p, "/dev/std") || strings.HasPrefix(p, "/dev/fd/") || p == "/dev/tty":
		return nil
	case strings.HasPrefix(p, "$") && !strings.HasPrefix(p, "$HOME") && !strings.HasPrefix(p, "${HOME"):
		return nil
	case len(s.writes) >= writesMax:
		return errShellMany
	}
	s.writes = append(s.writes, joinPath(s.cwd, p))
	return nil
}

func joinPath(dir, p string) string {
	if isRooted(p) || dir == "" {
		return p
	}
	return path.Join(dir, p)
}
