package pipeline_test

func beDaemon(string) {}
