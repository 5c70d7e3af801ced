module signalyard.test/e2e/pause

go 1.25
