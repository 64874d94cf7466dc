import Foundation
import Glibc
import Synchronization
import Testing

extension Weather {
    /// Flipped bits in the pages of the index, which carry no checksums.
    @Suite struct IndexDamageTests {
        struct Flip: Sendable, CustomStringConvertible {
            var number: Int
            var offset: Int
            var bit: UInt8
            var description: String { "flip \(number) of bit \(bit) in byte \(offset) of data.mdb" }
        }

        /// How many commands ended how.
        private static let endings = Mutex<[String: Int]>([:])

        @Test(
            "A flipped bit in the index never gives wrong data with status 0, and repair brings everything back"
        )
        func flippedBits() throws {
            let original = try DamagedIndex.Original()
            let pages = try IndexPages(original.scene.store + "/index/data.mdb")
            var generator = SeededGenerator(Weather.seed &+ 40)
            let flips = (1...(Weather.isLong ? 600 : 40)).map { number in
                let (offset, bit) = pages.flip(&generator)
                return Flip(number: number, offset: offset, bit: bit)
            }
            Weather.forEach(flips) { flip in
                let damaged = DamagedIndex(original, flip)
                defer { damaged.remove() }
                let failed = try damaged.checkReading(Self.count)
                try damaged.checkVerify(mustFind: failed, Self.count)
                try damaged.checkSave(Self.count)
                if Weather.isLong || flip.number.isMultiple(of: 3) { try damaged.checkCollection(Self.count) }
                try damaged.checkRepair()
            }
            let found = Self.endings.withLock { $0 }
            Weather.note("\(pages.used.count) pages; \(found.sorted { $0.key < $1.key })")
            // Otherwise the flips met nothing that is read.
            #expect(found["verify 3", default: 0] > flips.count / 4)
        }

        @Test("The size of a page that the index says, by which LMDB divides, is noticed where it is none")
        func pageSizes() throws {
            let original = try DamagedIndex.Original()
            // In each of the two meta pages: 4096 becomes 0, 12288, and what no machine has.
            let flips = [0, IndexPages.pageSize].flatMap { page in
                [(41, 1 << 4), (41, 1 << 5), (43, 1 << 7)].map { (page + $0.0, UInt8($0.1)) }
            }.enumerated().map { Flip(number: $0, offset: $1.0, bit: $1.1) }
            Weather.forEach(flips) { flip in
                let damaged = DamagedIndex(original, flip)
                defer { damaged.remove() }
                #expect(try damaged.checkReading { _, _ in })
                try damaged.checkVerify(mustFind: true) { _, _ in }
                try damaged.checkRepair()
            }
        }

        @Test(
            "A page of the index that seems empty, so that a search misses what a scan comes by, is noticed")
        func hiddenEntries() throws {
            let original = try DamagedIndex.Original()
            let pages = try IndexPages(original.scene.store + "/index/data.mdb")
            let flips = pages.hidingFlips.enumerated().map {
                Flip(number: $0, offset: $1.offset, bit: $1.bit)
            }
            #expect(!flips.isEmpty)
            Weather.forEach(flips) { flip in
                let damaged = DamagedIndex(original, flip)
                defer { damaged.remove() }
                let failed = try damaged.checkReading { _, _ in }
                try damaged.checkVerify(mustFind: failed) { _, _ in }
            }
        }

        @Sendable private static func count(_ command: String, _ ending: Child.Ending) {
            let how = ending.status.map { "\($0)" } ?? "signal \(ending.signal ?? 0)"
            Self.endings.withLock { $0["\(command) \(how)", default: 0] += 1 }
        }

        @Test("verify goes on without a damaged or missing index")
        func unusableIndex() throws {
            let scene = try Scene()
            let index = scene.store + "/index/data.mdb"
            try Data(repeating: 0x5A, count: 65536).write(to: URL(fileURLWithPath: index))
            let pack = try #require(scene.packFiles().first)
            let file = try FileHandle(forUpdating: URL(fileURLWithPath: scene.store + "/packs/" + pack))
            try file.seek(toOffset: 64 + 96 + 50)
            try file.write(contentsOf: Data(repeating: 0, count: 8))
            try file.close()
            let before = try scene.contents()
            let temporary = scene.folder + "/temporary"
            try FileManager.default.createDirectory(atPath: temporary, withIntermediateDirectories: false)
            let verify = {
                try Child.run(
                    [Weather.program, "verify", "--json", "--store", scene.store],
                    environment: ["TMPDIR": temporary])
            }
            let ending = try verify()
            try require(ending.status == 3, "verify: \(ending.summary)")
            let report = try #require(try ending.json() as? [String: Any])
            let problems = try #require(report["problems"] as? [String])
            #expect(problems.contains { $0.contains("index") && $0.contains("`cairn repair`") })
            #expect((report["damaged"] as? [Any])?.isEmpty == false)
            #expect(try scene.contents() == before)
            #expect(try FileManager.default.contentsOfDirectory(atPath: temporary).isEmpty)
            // Who may only read checks without an index; who may write makes a missing one anew.
            try FileManager.default.removeItem(atPath: index)
            if geteuid() != 0 {
                chmod(scene.store, 0o555)
                #expect(try verify().status == 3)
                #expect(!FileManager.default.fileExists(atPath: index))
                chmod(scene.store, 0o755)
            }
            let other = try verify()
            #expect(other.status == 3 && !other.output.contains("index"))
            #expect(FileManager.default.fileExists(atPath: index))
        }
    }
}

/// A store with one flipped bit in its index, copied anew for each command.
struct DamagedIndex {
    /// A store with something of everything, and what it must say.
    final class Original: Sendable {
        let scene: Scene
        let list: String
        let pins: String
        let policy: String
        static let steps = [10, 20, 30]

        init() throws {
            scene = try Scene()
            // Names that take several pages, chunks that a collection removed, and pages that became free.
            for step in 1...20 {
                let source = scene.folder + "/s\(step)"
                try Checkpoint(run: 2, step: step).write(to: source)
                try scene.cairn(["save", source, "--run", "other", "--step", "\(step)"]).mustSucceed()
            }
            for command in [
                ["delete", "other@3", "other@4"], ["gc"], ["pin", "r@10", "gold"],
                ["pin", "other@7", "silver"],
                ["policy", "--run", "r", "--keep-last", "100"], ["rewind", "other@15"],
                ["annotate", "r@20", "--metric", "eval=0.5", "--note", "later"],
            ] { try scene.cairn(command).mustSucceed("\(command)") }
            list = try Self.ask(scene.store, ["list"])
            pins = try Self.ask(scene.store, ["pins"])
            policy = try Self.ask(scene.store, ["policy"])
        }

        static func ask(_ store: String, _ command: [String]) throws -> String {
            let ending = try Scene.cairn(command + ["--json", "--store", store])
            try ending.mustSucceed("\(command)")
            return ending.output
        }
    }

    typealias Count = @Sendable (String, Child.Ending) -> Void

    let original: Original
    let flip: Weather.IndexDamageTests.Flip
    private let folder: String

    init(_ original: Original, _ flip: Weather.IndexDamageTests.Flip) {
        self.original = original
        self.flip = flip
        folder = original.scene.folder + "/flip-\(flip.number)"
    }

    func remove() { _ = try? Child.run(["rm", "-rf", folder]) }

    /// A fresh copy of the store, damaged.
    private func copy() throws -> String {
        remove()
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
        try Child.run(["cp", "-a", original.scene.store, folder]).mustSucceed()
        let store = folder + "/store"
        let file = try FileHandle(forUpdating: URL(fileURLWithPath: store + "/index/data.mdb"))
        defer { try? file.close() }
        try file.seek(toOffset: UInt64(flip.offset))
        guard let byte = try file.read(upToCount: 1)?.first else { throw Trouble("the index is too short") }
        try file.seek(toOffset: UInt64(flip.offset))
        try file.write(contentsOf: Data([byte ^ flip.bit]))
        return store
    }

    private func run(_ command: [String], _ store: String, _ count: Count) throws -> Child.Ending {
        let ending = try Scene.cairn(command + ["--store", store])
        count(command[0], ending)
        try require(
            ending.status.map { [0, 1, 3].contains($0) } ?? true, "\(command[0]): \(ending.summary)")
        return ending
    }

    /// Status 0 comes with the truth. Returns whether any command had another one.
    func checkReading(_ count: Count) throws -> Bool {
        var failed = false
        let store = try copy()
        for (command, truth) in [
            ("list", original.list), ("pins", original.pins), ("policy", original.policy),
        ] {
            let ending = try run([command, "--json"], store, count)
            if ending.status != 0 { failed = true }
            try require(ending.status != 0 || ending.output == truth, "\(command) lies: \(ending.output)")
        }
        let ending = try run(["restore", "r@20", folder + "/back"], try copy(), count)
        if ending.status == 0 { try compare(folder + "/back", Checkpoint(run: 1, step: 20)) }
        return failed || ending.status != 0
    }

    /// It survives, finds what made others fail, and blames nothing but the index.
    func checkVerify(mustFind: Bool, _ count: Count) throws {
        let ending = try run(["verify", "--json"], try copy(), count)
        try require(ending.status == 0 || ending.status == 3, "verify: \(ending.summary)")
        try require(!mustFind || ending.status == 3, "verify finds nothing, though a command failed")
        guard ending.status == 3, let report = try ending.json() as? [String: Any] else { return }
        try require((report["damaged"] as? [Any])?.isEmpty == true, "verify blames iterations: \(report)")
        try require(ending.output.contains("`cairn repair`"), "verify does not say what to do: \(report)")
    }

    /// What was saved before stays, and what was saved with status 0 is there.
    func checkSave(_ count: Count) throws {
        let store = try copy()
        let save = ["save", original.scene.source, "--run", "r", "--step", "40", "--json"]
        let ending = try run(save, store, count)
        try repair(store)
        let list = try Original.ask(store, ["list", "--run", "r"])
        for step in Original.steps {
            try require(list.contains("\"step\":\(step)"), "\(step) is gone: \(list)")
        }
        let isThere = list.contains("\"step\":40")
        try require(isThere || ending.status != 0, "the saved iteration is gone: \(list)")
        if isThere { try checkRestore(store, "r@40", Scene.next) }
    }

    /// A collection on a damaged index takes nothing away that is needed.
    func checkCollection(_ count: Count) throws {
        let store = try copy()
        _ = try run(["gc", "--json"], store, count)
        try repair(store)
        try checkAnswers(store)
    }

    func checkRepair() throws {
        let store = try copy()
        try repair(store)
        try checkAnswers(store)
        try Scene.cairn(["verify", "--store", store]).mustSucceed("verify after the repair")
        for step in Original.steps { try checkRestore(store, "r@\(step)", Checkpoint(run: 1, step: step)) }
    }

    /// Succeeds only where it then finds every byte that an iteration needs.
    private func repair(_ store: String) throws {
        try Scene.cairn(["repair", "--store", store]).mustSucceed("repair")
    }

    private func checkAnswers(_ store: String) throws {
        for (command, truth) in [
            ("list", original.list), ("pins", original.pins), ("policy", original.policy),
        ] {
            let found = try Original.ask(store, [command])
            try require(found == truth, "\(command) after the repair: \(found)")
        }
    }

    private func checkRestore(_ store: String, _ reference: String, _ checkpoint: Checkpoint) throws {
        let place = folder + "/back"
        _ = try Child.run(["rm", "-rf", place])
        try Scene.cairn(["restore", reference, place, "--store", store]).mustSucceed("restore \(reference)")
        try compare(place, checkpoint)
    }

    private func compare(_ place: String, _ checkpoint: Checkpoint) throws {
        if let difference = checkpoint.difference(from: try Checkpoint.read(place)) {
            throw Trouble("restored: \(difference)")
        }
    }
}
