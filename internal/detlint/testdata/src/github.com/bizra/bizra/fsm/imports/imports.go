package imports

import (
	_ "github.com/bizra/bizra/fsm/floats"
	_ "github.com/bizra/bizra/fsm/store/pebblestore" // want `import: github.com/bizra/bizra/fsm/store/pebblestore is not checked`
	_ "github.com/bizra/bizra/fsmother"              // want `import: github.com/bizra/bizra/fsmother is not checked`
	//detlint:allow import constants only
	_ "github.com/bizra/bizra/internal/kit"
	_ "github.com/bizra/bizra/pci"
)
