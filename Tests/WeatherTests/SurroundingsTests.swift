import Foundation
import Glibc
import Synchronization
import Testing

extension Weather {
    /// Full disks, read-only mounts, containers, limits and permissions.
    @Suite struct SurroundingsTests {
        /// Runs a shell script with `$CAIRN`, `$STORE` and `$DIR`; `SKIP` on its output means that it could not be set up here.
        @discardableResult
        private func script(
            _ scene: Scene, _ text: String, through prefix: [String] = [], seconds: Double = 60
        ) throws -> String? {
            let ending = try Child(
                prefix + ["bash", "-euc", text],
                environment: ["CAIRN": Weather.program, "STORE": scene.store, "DIR": scene.folder]
            ).wait(seconds: seconds)
            if let line = ending.output.split(separator: "\n").first(where: { $0.hasPrefix("SKIP") }) {
                Weather.note("skipped: \(line.dropFirst(5))")
                return nil
            }
            try require(ending.status == 0, "the script failed: \(ending.summary) \(ending.output)")
            return ending.output
        }

        private static let isRoot = geteuid() == 0

        @Test(
            "Buffers keep within --memory, however many --jobs there are and however large chunks are",
            arguments: ["256KiB", "4MiB"])
        func memoryWithinTheSetting(chunkSize: String) throws {
            let scene = try Scene()
            let store = scene.folder + "/wide"
            try script(
                scene,
                """
                $CAIRN init --store $DIR/wide --chunk-size \(chunkSize)
                mkdir $DIR/one $DIR/two
                head -c 96M /dev/urandom > $DIR/one/model.bin
                tr '\\000-\\377' '\\001-\\377\\000' < $DIR/one/model.bin > $DIR/two/model.bin
                """)
            for arguments in [
                ["save", scene.folder + "/one", "--run", "wide", "--step", "1"],
                ["save", scene.folder + "/two", "--run", "wide", "--step", "2"],
                ["restore", "wide@2", scene.folder + "/out"], ["verify"],
            ] {
                let child = try Child(
                    [Weather.program] + arguments + ["--store", store, "--jobs", "64", "--memory", "64MiB"])
                var peak = 0
                while let now = child.peakMemory {
                    peak = now
                    usleep(500)
                }
                let ending = try child.wait()
                try require(ending.status == 0, ending.summary)
                #expect(16..<64 + 48 ~= peak >> 10, "\(arguments[0])")
            }
            try script(scene, "cmp $DIR/two/model.bin $DIR/out/model.bin")
        }

        @Test(
            "A store that a machine with other pages of memory made is the same here",
            arguments: [16384, 65536])
        func pagesOfMemory(size: Int) throws {
            let scene = try Scene()
            try script(
                scene,
                """
                there() { LD_PRELOAD=\(Weather.faultLibrary) CAIRN_FAULT_PAGE_SIZE=\(size) $CAIRN "$@" --store $S; }
                here() { $CAIRN "$@" --store $S; }
                for n in 1 2 3; do
                    mkdir $DIR/c$n; head -c 400000 /dev/urandom > $DIR/c$n/a.bin
                done
                for pair in "there here" "here there"; do
                    read one other <<< "$pair"
                    S=$DIR/$one
                    $one init --chunk-size 4KiB
                    $one save $DIR/c1 --run r --step 1
                    $other save $DIR/c2 --run r --step 2
                    $one save $DIR/c3 --run r --step 3
                    [ $(od -An -tu4 -j40 -N4 $S/index/data.mdb) = $([ $one = here ] && getconf PAGESIZE || echo \(min(size, 32768))) ]
                    for side in here there; do
                        $side verify
                        $side restore r@2 $DIR/$one-$side; cmp $DIR/c2/a.bin $DIR/$one-$side/a.bin
                    done
                    $other delete r@1; $other gc
                    $one repair; $other verify
                done
                """)
        }

        @Test("On a full file system delete and gc work and give space back")
        func fullFileSystem() throws {
            let scene = try Scene()
            let output = try script(
                scene,
                """
                truncate -s 64M $DIR/image
                mkfs.ext4 -q -F -m 0 $DIR/image 2>/dev/null || { echo SKIP no mkfs.ext4; exit 0; }
                mkdir $DIR/mount
                mount -o loop $DIR/image $DIR/mount 2>/dev/null || { echo SKIP loop devices may not be mounted; exit 0; }
                S=$DIR/mount/store
                $CAIRN init --store $S --chunk-size 4KiB
                for i in 1 2 3 4; do
                    mkdir $DIR/c$i
                    head -c 3000000 /dev/urandom > $DIR/c$i/a.bin
                    head -c 1000000 /dev/urandom > $DIR/c$i/b.bin
                    $CAIRN save $DIR/c$i --run r --step $i --store $S
                done
                dd if=/dev/zero of=$DIR/mount/filler bs=64K 2>/dev/null || true
                dd if=/dev/zero of=$DIR/mount/filler2 bs=512 2>/dev/null || true
                sync -f $DIR/mount
                if $CAIRN save $DIR/source --run r --step 5 --store $S 2>$DIR/error; then
                    echo a save succeeded on a full disk; exit 1
                fi
                [ $(wc -l < $DIR/error) = 1 ]; grep -q 'no space' $DIR/error
                [ $($CAIRN list --json --store $S | grep -o '"step"' | wc -l) = 4 ]
                before=$(stat -f -c %f $DIR/mount)
                $CAIRN delete r@1 r@2 --store $S
                $CAIRN gc --store $S
                after=$(stat -f -c %f $DIR/mount)
                [ $(( (after - before) * $(stat -f -c %S $DIR/mount) )) -gt 6000000 ]
                $CAIRN verify --store $S
                for i in 3 4; do
                    $CAIRN restore r@$i $DIR/back$i --store $S
                    diff -r $DIR/c$i $DIR/back$i
                done
                if $CAIRN restore r@3 $DIR/mount/small --store $S 2>$DIR/error; then :; else
                    [ $(wc -l < $DIR/error) = 1 ]; [ ! -e $DIR/mount/small ]
                    [ -z "$(find $DIR/mount -name '.cairn-*')" ]
                fi
                rm -rf $DIR/mount/filler* $DIR/mount/small
                $CAIRN save $DIR/source --run r --step 5 --store $S
                $CAIRN verify --store $S
                [ $(ls $S/packs | wc -l) = 3 ]
                echo freed $((after - before)) blocks
                """, through: ["unshare", "-m"], seconds: 120)
            if let output { #expect(output.contains("freed")) }
        }

        @Test("A destination on a full disk is not there afterwards")
        func fullDestination() throws {
            let scene = try Scene()
            try script(
                scene,
                """
                mkdir $DIR/mount
                mount -t tmpfs -o size=64k tmpfs $DIR/mount 2>/dev/null || { echo SKIP tmpfs may not be mounted; exit 0; }
                status=0; $CAIRN restore r@30 $DIR/mount/to --store $STORE 2>$DIR/error || status=$?
                [ $status = 1 ]
                [ $(wc -l < $DIR/error) = 1 ]; grep -q 'no space' $DIR/error
                [ -z "$(ls -A $DIR/mount)" ]
                """, through: ["unshare", "-m"])
            try scene.checkIntact()
        }

        @Test("A store on a read-only mount lists, verifies and restores, and refuses to be changed")
        func readOnlyMount() throws {
            let scene = try Scene()
            let before = try scene.contents()
            let output = try script(
                scene,
                """
                mount --bind $STORE $STORE 2>/dev/null && mount -o remount,bind,ro $STORE 2>/dev/null \\
                    || { echo SKIP bind mounts are not allowed; exit 0; }
                if touch $STORE/x 2>/dev/null; then echo SKIP the mount is writable; exit 0; fi
                $CAIRN list --store $STORE
                $CAIRN show r@30 --store $STORE
                $CAIRN stats --store $STORE
                $CAIRN verify --quick --store $STORE
                $CAIRN verify --store $STORE
                for i in 10 20 30; do $CAIRN restore r@$i $DIR/back$i --store $STORE; done
                for command in "save $DIR/source --run r --step 40" gc "delete r@10" "pin r@10 x"; do
                    status=0; $CAIRN $command --store $STORE 2>$DIR/error || status=$?
                    [ $status = 1 ] || { echo $command ended with $status; exit 1; }
                    [ $(wc -l < $DIR/error) = 1 ]; grep -q 'read' $DIR/error
                done
                echo done
                """, through: ["unshare", "-m"])
            guard output != nil else { return }
            for step in [10, 20, 30] {
                let found = try Checkpoint.read(scene.folder + "/back\(step)")
                #expect(Checkpoint(run: 1, step: step).difference(from: found) == nil)
            }
            #expect(try scene.contents() == before)
            try scene.checkIntact()
        }

        @Test(
            "Where a store can only be read, an index that is old or missing is made for the command alone",
            arguments: ["old", "missing"])
        func readOnlyIndex(_ what: String) throws {
            let scene = try Scene()
            let index = scene.store + "/index/data.mdb"
            if what == "old" {
                try Child.run(["cp", "-a", index, scene.folder + "/old"]).mustSucceed()
                try scene.cairn(["delete", "r@10"]).mustSucceed()
                scene.committed.withLock { $0[10] = nil }
                try Child.run(["cp", "-a", scene.folder + "/old", index]).mustSucceed()
            } else {
                try Child.run(["rm", index]).mustSucceed()
            }
            let before = try scene.contents()
            let output = try script(
                scene,
                """
                mount --bind $STORE $STORE 2>/dev/null && mount -o remount,bind,ro $STORE 2>/dev/null \\
                    || { echo SKIP bind mounts are not allowed; exit 0; }
                mkdir $DIR/tmp; export TMPDIR=$DIR/tmp
                for command in "show r@30" stats verify "restore r@30 $DIR/to"; do
                    $CAIRN $command --store $STORE >$DIR/output 2>$DIR/error
                    [ "$command" = verify ] || grep -q 'can only be read: making one' $DIR/error
                done
                $CAIRN list --json --store $STORE >$DIR/list 2>/dev/null
                status=0; $CAIRN save $DIR/source --run r --step 40 --store $STORE 2>$DIR/error || status=$?
                [ $status = 1 ]; [ $(wc -l < $DIR/error) = 1 ]; grep -q 'can only be read' $DIR/error
                rmdir $DIR/tmp
                echo done
                """, through: ["unshare", "-m"])
            guard output != nil else { return }
            #expect(try scene.contents() == before)
            let list = try JSONSerialization.jsonObject(
                with: Data(contentsOf: URL(fileURLWithPath: scene.folder + "/list")))
            let steps = (list as? [[String: Any]] ?? []).compactMap { $0["step"] as? Int }
            #expect(steps == (what == "missing" ? [10, 20, 30] : [20, 30]))
            #expect(
                Checkpoint(run: 1, step: 30).difference(from: try Checkpoint.read(scene.folder + "/to"))
                    == nil)
            try scene.checkIntact()
        }

        @Test("A mounted file system that is not known to keep a store safe is refused, with what to do")
        func mountedOtherFileSystem() throws {
            let scene = try Scene()
            let output = try script(
                scene,
                """
                mkdir $DIR/mount
                mount -t ramfs ramfs $DIR/mount 2>/dev/null || { echo SKIP ramfs may not be mounted; exit 0; }
                cp -a $STORE $DIR/mount/copy
                for command in "init --store $DIR/mount/new" "list --store $DIR/mount/copy" \\
                    "save $DIR/source --run r --step 40 --store $DIR/mount/copy"; do
                    status=0; $CAIRN $command 2>$DIR/error || status=$?
                    [ $status = 1 ] || { echo $command ended with $status; exit 1; }
                    [ $(wc -l < $DIR/error) = 1 ]; grep -q 'put the store on a local one: .*ext4' $DIR/error
                done
                [ ! -e $DIR/mount/new ]
                # What is saved from there and restored to may be there.
                cp -a $DIR/source $DIR/mount/source
                $CAIRN save $DIR/mount/source --run r --step 40 --store $STORE
                $CAIRN restore r@40 $DIR/mount/to --store $STORE
                diff -r --no-dereference $DIR/source $DIR/mount/to
                echo done
                """, through: ["unshare", "-m"])
            if output != nil { scene.committed.withLock { $0[40] = Scene.next } }
            try scene.checkIntact()
        }

        @Test("Two processes that are both number 1 of their namespaces save into one store")
        func namespaces() throws {
            let scene = try Scene()
            guard try Child.run(["unshare", "-pf", "true"]).status == 0 else {
                return Weather.note("skipped: PID namespaces may not be made")
            }
            let count = Weather.isLong ? 50 : 10
            Weather.forEach(["a", "b"]) { run in
                for step in 1...count {
                    let source = scene.folder + "/\(run)\(step)"
                    try Checkpoint(run: run == "a" ? 2 : 3, step: step).write(to: source)
                    let command = [Weather.program, "save", source, "--run", run, "--step", "\(step)"]
                    try Child.run(["unshare", "-pf"] + command + ["--store", scene.store]).mustSucceed(
                        "\(step)")
                }
            }
            for run in ["a", "b"] {
                #expect(try scene.listed(run: run).count == count)
                try scene.checkRestores("\(run)@\(count)", Checkpoint(run: run == "a" ? 2 : 3, step: count))
            }
            try scene.checkIntact()
        }

        @Test("8 GB of address space are enough")
        func addressSpace() throws {
            let scene = try Scene(deleted: true)
            try script(
                scene,
                """
                ulimit -v 8388608
                $CAIRN save $DIR/source --run r --step 40 --store $STORE
                $CAIRN list --store $STORE
                $CAIRN gc --store $STORE
                $CAIRN verify --store $STORE
                $CAIRN restore r@40 $DIR/back --store $STORE
                $CAIRN init --store $DIR/other
                """)
            scene.committed.withLock { $0[40] = Scene.next }
            try scene.checkIntact()
        }

        @Test("What is printed goes into no file of the store where the standard streams are closed")
        func closedStreams() throws {
            let scene = try Scene()
            try script(
                scene,
                """
                for command in "save $DIR/source --run r --step 40" list stats verify gc "restore r@40 $DIR/back"; do
                    $CAIRN $command --store $STORE <&- >&- 2>&-
                done
                """)
            scene.committed.withLock { $0[40] = Scene.next }
            try scene.checkIntact()
        }

        @Test("64 descriptors are enough for a store of more packs, and a limit of file sizes is an error")
        func descriptors() throws {
            let scene = try Scene()
            for step in 1...40 {
                try scene.cairn(["save", scene.source, "--run", "n", "--step", "\(step)"]).mustSucceed()
            }
            try script(
                scene,
                """
                ulimit -n 64
                $CAIRN verify --store $STORE
                $CAIRN policy --run n --keep-last 1 --store $STORE
                $CAIRN gc --store $STORE
                $CAIRN repair --store $STORE
                $CAIRN restore r@30 $DIR/back --store $STORE
                ulimit -f 8
                $CAIRN restore r@20 $DIR/small --store $STORE 2>$DIR/error && exit 1
                [ $? = 1 ] && grep -q "larger than" $DIR/error && ! ls -A $DIR | grep small
                """)
            #expect(try scene.listed(run: "n") == [40])
            try scene.checkIntact()
        }

        @Test(
            "A file system that is not known to keep a store safe is refused, with what to do",
            arguments: [
                ("6969", "NFS"), ("65735546", "FUSE"), ("4d44", "FAT"), ("deadbeef", "0xdeadbeef"),
            ])
        func otherFileSystems(_ magic: String, _ name: String) throws {
            let scene = try Scene()
            let before = try scene.contents()
            let faults = Faults(kind: "kill", number: 0, under: [], fileSystem: magic)
            for arguments in [["list"], scene.saveArguments, ["gc"]] {
                let ending = try scene.cairn(arguments, faults: faults)
                try ending.mustFail(1, mentioning: name)
                try ending.mustFail(1, mentioning: "ext4")
            }
            #expect(try scene.contents() == before)
            let place = scene.folder + "/new"
            let ending = try Child.run(
                [Weather.program, "init", "--store", place], environment: faults.environment)
            try ending.mustFail(1, mentioning: name)
            #expect(!FileManager.default.fileExists(atPath: place))
        }

        @Test(
            "Where there are too few threads a save is one sentence, and the store is as it was",
            arguments: [0, 1, 3])
        func threads(_ limit: Int) throws {
            let scene = try Scene()
            let arguments = scene.saveArguments + ["--jobs", "4", "--store", scene.store]
            let ending = try Child.run(
                [Weather.program] + arguments,
                environment: ["LD_PRELOAD": Weather.faultLibrary, "CAIRN_FAULT_THREADS": "\(limit)"])
            try ending.mustFail(1, mentioning: "--jobs")
            try scene.checkIntact()
            try scene.cairn(scene.saveArguments).mustSucceed()
        }

        @Test("What an ordinary user may not read or write is one sentence, and the store is as it was")
        func permissions() throws {
            let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
            let scene = try Scene()
            if Self.isRoot, try Child.run(nobody + [Weather.program, "--version"]).status != 0 {
                return Weather.note("skipped: nobody may not run \(Weather.program)")
            }
            let user = Self.isRoot ? nobody : []
            if Self.isRoot { try Child.run(["chown", "-R", "65534:65534", scene.folder]).mustSucceed() }
            let before = try scene.contents()
            let run = { (arguments: [String]) in
                try Child.run(user + [Weather.program] + arguments + ["--store", scene.store])
            }
            // A source that can't be read, as a file and as a folder.
            let save = ["save", scene.source, "--run", "r", "--step", "40"]
            for (path, mode) in [("/config.json", mode_t(0)), ("/extra", 0), ("", 0)] {
                chmod(scene.source + path, mode)
                try run(save).mustFail(1, mentioning: "permission denied")
                chmod(scene.source + path, path == "/config.json" ? 0o644 : 0o755)
            }
            // A destination that can't be written.
            try FileManager.default.createDirectory(
                atPath: scene.folder + "/closed", withIntermediateDirectories: false)
            chmod(scene.folder + "/closed", 0o555)
            try run(["restore", "r@30", scene.folder + "/closed/to"]).mustFail(
                1, mentioning: "permission denied")
            try Child.run(user + [Weather.program, "init", "--store", scene.folder + "/closed/s"])
                .mustFail(1, mentioning: "permission denied")
            #expect(try scene.contents() == before)
            // A store that can't be written: everything that only reads works.
            try Child.run(["chmod", "-R", "a-w", scene.store]).mustSucceed()
            for step in [10, 20, 30] {
                let place = scene.folder + "/back\(step)"
                try run(["restore", "r@\(step)", place]).mustSucceed(
                    "restore from a store that can only be read")
                #expect(Checkpoint(run: 1, step: step).difference(from: try Checkpoint.read(place)) == nil)
            }
            for arguments in [["list"], ["show", "r@30"], ["stats"], ["verify", "--quick"], ["verify"]] {
                try run(arguments).mustSucceed("\(arguments) on a store that can only be read")
            }
            for arguments in [save, ["gc"], ["delete", "r@10"], ["pin", "r@10", "x"]] {
                try run(arguments).mustFail(1)
            }
            // A store that can't be read, and one of whose files can't.
            chmod(scene.store + "/packs", 0)
            try run(["restore", "r@30", scene.folder + "/nothing"]).mustFail(
                1, mentioning: "permission denied")
            chmod(scene.store + "/packs", 0o555)
            chmod(scene.store, 0)
            try run(["list"]).mustFail(1, mentioning: "permission denied")
            chmod(scene.store, 0o555)
            #expect(try scene.contents() == before)
            try Child.run(["chmod", "-R", "u+w", scene.store]).mustSucceed()
            try scene.checkIntact()
        }
    }
}
