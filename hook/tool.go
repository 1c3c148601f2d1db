package hook

import (
	"strings"
)

// operation is how a tool call is named in a proof: FATE's fidelity wants the words of the intent
// in the operation's name, and both are made of the tool's name here. So the score is 1 for every
// call that is recorded whole: it says that the call is what it is called, not that it is wise.
type operation struct {
	name, typ, intent string
	task              string // for the budget
}

const operationBytesMax = 200

// operationOf names the use of a tool.
func operationOf(verb, tool string) operation {
	parts := append([]string{verb}, words(tool)...)
	if len(parts) == 1 {
		parts = append(parts, "tool")
	}
	name := clipWords(parts)
	typ, task := typeOf(tool)
	return operation{name: strings.Join(name, "_"), intent: strings.Join(name, " "), typ: typ, task: task}
}

func clipWords(parts []string) []string {
	size := 0
	for i, p := range parts {
		if size += len(p) + 1; size > operationBytesMax {
			return append(parts[:i:i], p[:min(len(p), 8)])
		}
	}
	return parts
}

// typeOf sorts the tools of agent CLIs by what they do. The second is the nearest task that a
// budget is known for.
func typeOf(tool string) (typ, task string) {
	if strings.HasPrefix(tool, "mcp__") || strings.HasPrefix(tool, "mcp_") {
		return "remote", "transform"
	}
	switch strings.ToLower(strings.ReplaceAll(tool, "_", "")) {
	case "read", "readfile", "readmanyfiles", "ls", "listdirectory", "glob", "findfiles", "grep", "searchfilecontent", "notebookread", "bashoutput", "taskoutput":
		return "read", "lookup"
	case "write", "writefile", "edit", "multiedit", "notebookedit", "replace", "applypatch":
		return "write", "transform"
	case "bash", "shell", "runshellcommand", "localshell", "execcommand", "killshell", "killbash":
		return "execute", "transform"
	case "webfetch", "websearch", "googlewebsearch":
		return "fetch", "lookup"
	case "task", "agent":
		return "delegate", "plan"
	case "todowrite", "exitplanmode", "enterplanmode":
		return "plan", "plan"
	}
	return "tool", "transform"
}

// longText reports whether a member of a tool's input is text of a file, which may be judged in
// parts; commands are not, since a part of one means something else.
func longText(member string) bool {
	switch member {
	case "content", "contents", "file_text", "old_string", "new_string", "old_str", "new_str", "insert_text", "new_source", "patch", "diff", "prompt":
		return true
	}
	return false
}
