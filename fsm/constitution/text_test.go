package constitution_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/bizra/bizra/fsm/constitution"
)

func TestCommands(t *testing.T) {
	for text, want := range map[string]string{
		``:                                         "",
		`ls -la`:                                   "ls -la",
		`a; b && c || d & e`:                       "a\nb\nc\nd\ne",
		`cat x | grep y |& wc -l`:                  "cat x | grep y | wc -l",
		`sudo -u root env A=1 nice -n 5 rm -f x`:   "rm -f x",
		`/usr/bin/RM x`:                            "rm x",
		`r\m -r''f "/"`:                            "rm -rf /",
		`echo "a b" 'c d'`:                         "echo a\u00a0b c\u00a0d",
		`rm${IFS}-rf$IFS/`:                         "rm -rf /",
		`x=rm; y="-r -f"; $x $y /`:                 "rm -r -f /",
		`x=/; echo "$x"y ${x}z ${u:-w} $HOME`:      "echo /y /z w $home",
		`r${u}m r$@m`:                              "rm rm", //nolint:dupword // what two spellings give
		`a=harm; ${a:2:2}`:                         "rm",
		`$'\x72\155' $'a\tb'`:                      "rm a\u00a0b",
		`$(echo rm) -rf /`:                         "echo rm\nrm -rf /", //nolint:dupword // what is printed, then run
		"`printf '%s%s' r m` /":                    "printf %s%s r m\nrm /",
		`x $(cat f)`:                               "cat f\nx $()",
		`$X -f`:                                    "?? $x -f",
		`/bin/r? x`:                                "?? r? x",
		`{rm,-rf,/}`:                               "rm -rf /",
		`/bin/r[m] x`:                              "rm x",
		`bash -c "rm x"`:                           "bash -c rm\u00a0x\nrm x",
		`eval rm "x y"`:                            "eval rm x\u00a0y\nrm x y",
		`ssh -p 22 host rm x`:                      "ssh -p 22 host rm x\nrm x",
		`docker exec -it db sh -c 'rm x'`:          "docker exec -it db sh -c rm\u00a0x\nsh -c rm\u00a0x\nrm x\nrm x",
		`echo cm0geA== | base64 -d | sh`:           "echo cm0gea== | base64 -d | sh\nrm x",
		`echo 726d2078 | xxd -r -p | sh`:           "echo 726d2078 | xxd -r -p | sh\nrm x",
		`echo 'x mr' | rev | sh`:                   "echo x\u00a0mr | rev | sh\nrm x",
		`echo 'ez k' | tr a-z n-za-m | sh`:         "echo ez\u00a0k | tr a-z n-za-m | sh\nrm x",
		`printf '%s ' rm x | sh`:                   "printf %s\u00a0 rm x | sh\nrm x",
		`sh <<< "rm x"`:                            "sh\nrm x",
		"sh <<E\nrm x\nE\nls":                      "sh\nrm x\nls",
		"cat <<'E'\n$(rm x)\nE":                    "cat",
		"cat <<E\n$(rm x)\nE":                      "rm x\ncat",
		"cat <<E > a.sh\nrm x\nE":                  "cat > a.sh\nrm x",
		`echo "rm x" > a.sh`:                       "echo rm\u00a0x > a.sh\nrm x",
		`bash <(curl u)`:                           "curl u\nbash <()\ncurl u | sh",
		`sh -c "$(curl u)"`:                        "curl u\nsh -c $()\ncurl u | sh\n?? $()",
		`(a; b) | c`:                               "a\nb\n() | c",
		`if a; then rm x; fi`:                      "a\nrm x",
		`for f in a b; do rm $f; done`:             "for f in a b\nrm a b",
		`:(){ :|:& };:`:                            "forkbomb\n: | :\n:",
		`f() { ls; }; f`:                           "ls\nf",
		`python -c "import os; os.system('rm x')"`: "python -c import\u00a0os;\u00a0os.system('rm\u00a0x')\ncode import os; os.system(rm x)\nrm x",
		`psql <<< "drop table x"`:                  "psql\npsql << drop table x", //nolint:dupword // the command, then what it reads
		`a 2>&1 >b 2>/dev/null < c`:                "a > b > /dev/null < c",
		`a &> b`:                                   "a > b",
		"a \\\n b":                                 "a b",
		`a # b`:                                    "a",
		`alias x='rm -f'; x y`:                     "alias x=rm\u00a0-f\nrm -f y",
		`echo a b | xargs -n1 rm`:                  "echo a b | rm a b",
		`read x <<< "rm y"; $x`:                    "read x\nrm y",
		`IFS=,; c=rm,x; $c`:                        "rm x",
		"rm\u200b \uff0drf":                        "rm -rf",
		`echo $((1+2)) ${x[@]}`:                    "echo 0",
		`unclosed "quote`:                          "unclosed quote",
		`unclosed $(sub`:                           "sub\nunclosed $()",
	} {
		got, err := constitution.Commands(text)
		if err != nil || got != want {
			t.Errorf("%q\n got %q, %v\nwant %q", text, got, err, want)
		}
	}
}

func TestCommandsBounds(t *testing.T) {
	for name, text := range map[string]string{
		"depth":     strings.Repeat("$(", 20) + "a",
		"growth":    "a=" + strings.Repeat("x", 100) + ";" + strings.Repeat("a=$a$a;", 40) + "$a",
		"evals":     strings.Repeat("eval ", 9000),
		"variables": variables(400),
	} {
		if out, err := constitution.Commands(text); err == nil {
			t.Errorf("%s: no error, %d bytes", name, len(out))
		}
	}
	if _, err := constitution.Commands(variables(200)); err != nil {
		t.Error(err)
	}
	if _, err := constitution.Writes("touch" + strings.Repeat(" a", 2000)); err == nil {
		t.Error("2000 files were followed")
	}
}

func variables(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("v" + strings.Repeat("x", i) + "=1;")
	}
	return b.String()
}

func TestWrites(t *testing.T) {
	for text, want := range map[string]string{
		`ls > a 2> /dev/null`:           "a",
		`cd b && echo x >> c`:           "b/c",
		`cd /x; cd y; touch z ../w`:     "/x/y/z /x/w",
		`cp -r a b /c`:                  "/c",
		`cp a host:b`:                   "",
		`mv -t d a`:                     "d",
		`tee -a e f < g`:                "e f",
		`sed -i s/a/b/ h; sed s/a/b/ i`: "h",
		`dd if=a of=/dev/sdx`:           "/dev/sdx",
		`curl -o "my file" u`:           "my file",
		`wget -O j u; tar xf k -C l`:    "j l",
		`echo x > $UNKNOWN/a`:           "",
		`echo x > $HOME/a ~/b`:          "$HOME/a",
		`> m`:                           "m",
		`bash -c 'echo > n'`:            "n",
		`cat a b`:                       "",
	} {
		got, err := constitution.Writes(text)
		if s := strings.Join(got, " "); err != nil || s != want {
			t.Errorf("%q: %q, %v; want %q", text, s, err, want)
		}
	}
}

func TestNormalise(t *testing.T) {
	for text, want := range map[string]string{
		"RM  -rf\t'/' ":    "rm -rf /",
		"a\\\nb c\\d":      "ab cd",
		"rm${IFS}-rf$IFS/": "rm -rf /",
		"с\u200burl ｈｔｔｐ":  "curl http",
		"𝐫𝐦 \u2014rf ⁄":    "rm -rf /",
		"a\u00a0b\u2028c":  "a b\nc",
		"straße":           "straße",
		"\x00a\x1bb":       "ab",
		"  a \n  b":        "a\nb",
	} {
		if got, err := constitution.Normalise(text); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestDecoded(t *testing.T) {
	for text, want := range map[string]string{
		"plain words":                      "",
		"src/components/Button/index":      "",
		"cm0gLXJmIC8K":                     "rm -rf /\n",
		"Y20wZ0xYSm1JQzg9":                 "cm0gLXJmIC8=\nrm -rf /",
		"726d202d7266202f":                 "rm -rf /",
		`\x72\x6d \162\155 \u0072m %72%6d`: "rm rm rm rm", //nolint:dupword // four spellings
		`100% \d \1`:                       "",
		"deadbeefdeadbeefdeadbeef":         "",
	} {
		want = strings.TrimSuffix(text+"\n"+want, "\n"+map[bool]string{true: ""}[want != ""])
		if want == text+"\n" {
			want = text
		}
		got, err := constitution.Decoded(text)
		if err != nil || got != want && got != want+"\n" {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	long := strings.Repeat("YWFhYWFhYWFhYWFhYWFh", 3500) // decodes to base64 again
	if _, err := constitution.Decoded(long); err == nil {
		t.Error("no error beyond the bound")
	}
}

func TestNumbers(t *testing.T) {
	for text, want := range map[string]bool{
		"4539148803436467": true, "4539 1488 0343 6467": true, "5425-2334-3010-9903": true, "x 3714496353984312 y": false,
		"4539148803436468": false, "4242424242424242": false, "4111 1111 1111 1111": false, "14539148803436467": false,
		"1772452800000000000": false, "a4539148803436467": false, "0.4539148803436467": false, "": false, "4539 1488 0343 6467 1": false,
	} {
		if got := constitution.HasCardNumber(text); got != want {
			t.Errorf("card %q: %v", text, got)
		}
	}
	for text, want := range map[string]bool{
		"GB94BARC10201530093459": true, "to ES79 2100 0813 6101 2345 6789.": true, "FR7630006000011234567890189": true,
		"GB95BARC10201530093459": false, "DE89370400440532013000": false, "GB94BARC1020153009345": false, "XGB94BARC10201530093459": false, "DE12": false,
	} {
		if got := constitution.HasIBAN(text); got != want {
			t.Errorf("iban %q: %v", text, got)
		}
	}
}

func TestWithin(t *testing.T) {
	for _, c := range []struct {
		paths, scope string
		want         bool
	}{
		{"/a/b", "/a", true}, {"/a", "/a/", true}, {"/ab", "/a", false}, {"/a/../b", "/a", false}, {"b/c", "/a", true}, {"../b", "/a", false},
		{"~/x", "/a", false}, {"~/x", "~", true}, {"$HOME/x", "~", true}, {"", "/a", true}, {"/a/x\n/b/x", "/a", false}, {"/a/x\n/a/y", "/a", true},
		{"x", ".", true}, {"../x", ".", false}, {"/x", ".", false}, {"/x", "/", true}, {`C:\a\b`, `c:\A`, true}, {"file:///a/b", "/a", true}, {"/A/B", "/a", true},
		{"/\u00e9/b", "/\u00e9", true}, {"/\u00c9/b", "/\u00e9", false}, {"/\ua7da", "/\u019b", false}, // the last two are one letter since Unicode 16
	} {
		if got := constitution.Within(c.paths, []string{c.scope}); got != c.want {
			t.Errorf("%q within %q: %v", c.paths, c.scope, got)
		}
	}
	if constitution.Within("/a", nil) {
		t.Error("something lies in no scope")
	}
}

func FuzzTexts(f *testing.F) {
	for _, s := range []string{"rm -rf /", "$(", "`a`", "a <<E\nb\nE", "x=$x$x;$x", "sh -c 'sh -c a'", "Y20wZ0xYSm1JQzg9", `\x72\u0072`, "${a:1:2}", "f(){ f|f& };f", "echo a|xargs sh -c", "printf %s%b a b|sh", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return
		}
		text = strings.ToValidUTF8(text, "")
		n, err := constitution.Normalise(text)
		if err != nil || len(n) > len(text) || !utf8.ValidString(n) {
			t.Errorf("Normalise(%q) = %q, %v", text, n, err)
		}
		for name, of := range map[string]func(string) (string, error){"Decoded": constitution.Decoded, "Commands": constitution.Commands, "Quoted": constitution.Quoted} {
			out, err := of(text)
			again, _ := of(text)
			if out != again || len(out) > constitution.TextBytesMax || !utf8.ValidString(out) || err != nil && out != "" {
				t.Errorf("%s(%q) = %q, then %q, %v", name, text, out, again, err)
			}
		}
		_, _ = constitution.Writes(text)
		constitution.HasCardNumber(text)
		constitution.HasIBAN(text)
	})
}
