INSERT INTO vms VALUES (
    '0123456789abcdef', 1000, 'old',
    '{"vcpus":2,"memory_bytes":1073741824,"disk_bytes":21474836480,"work_bytes":0,"image":"debian","init":"auto","net":"user","vmm":"auto"}',
    'stopped', 0, 'sha256:aa', 'sha256:bb',
    '{"machine_id":"00","mac":"02:00:00:00:00:01","generation":3,"vmm":"qemu","vmm_version":"7.2","machine":"pc-q35-7.2","cpu":"Nehalem","disk_driver":"qcow2"}',
    '2025-01-02T03:04:05.000000006Z', 'the host was restarted',
    '{"time":"2025-01-03T00:00:00Z","code":-1,"signal":"SIGKILL","reason":"killed"}',
    '0123456789abcdef'
);
