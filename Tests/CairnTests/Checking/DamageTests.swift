import ChunkStore
import Foundation
import Platform
import Testing

@testable import Cairn

/// One flipped bit in each kind of place is named, never passed on, and healed from a folder that holds the bytes.
@Suite struct DamageTests {
    let bench: Workbench
    let frozen: [UInt8]

    init() throws {
        bench = try Workbench()
        var generator = SeededGenerator(seed: 5)
        frozen = (0..<30_000).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        for step in 1...3 {
            let head = (0..<9000).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
            let folder = try bench.write(
                "out/checkpoint-\(step)",
                [
                    "model.safetensors": Workbench.safetensors([("head", head), ("frozen", frozen)]),
                    "notes.txt": [UInt8]("step \(step)".utf8),
                ])
            try bench.store.save(folder)
        }
    }

    /// A place in a pack, as its table's entries and the format's page give it.
    enum Place: String, CaseIterable {
        case packHeader, recordHeader, payload, table, trailer
    }

    private func packs() throws -> [String] {
        let folder = bench.path("store/packs")
        return try FileManager.default.contentsOfDirectory(atPath: folder).map { folder + "/" + $0 }
    }

    /// The pack that holds the frozen tensor: the first save's.
    private func firstPack() throws -> String {
        try #require(
            try packs().max { a, b in
                let size = { (path: String) in
                    try FileManager.default.attributesOfItem(atPath: path)[.size] as! Int
                }
                return try size(a) < size(b)
            })
    }

    @Test(arguments: [false, true])
    func `what is deleted during a check is left out, and the rest is checked`(isLate: Bool) throws {
        if isLate {
            // Only then everything is looked at once more.
            let pack = try firstPack()
            let bytes = try Data(contentsOf: URL(fileURLWithPath: pack))
            try bench.flip(pack, try #require(bytes.range(of: Data(frozen.prefix(32)))).lowerBound)
        }
        let store = bench.store
        let other = try Store.open(at: bench.path("store"))
        let calls = Monitor(0)
        let progress = Progress(isInterrupted: {
            let call = calls.change { calls in
                calls += 1
                return calls
            }
            if call == (isLate ? 4 : 1) {
                _ = try? other.delete(["1"])
                _ = try? other.collect(dryRun: false)
            }
            return false
        })
        let report = try store.verify(progress: progress)
        #expect(try store.iterations().map(\.step) == [2, 3] && report.iterations == 2)
        #expect(report.damaged.map(\.step) == (isLate ? [2, 3] : []) && report.problems.isEmpty)
        #expect(bench.code { _ = try store.verify(["1"]) } == .notFound)
    }

    private func restores(_ step: Int) -> CairnError.Code? {
        let place = bench.path("restored-\(UUID().uuidString)")
        return bench.code {
            _ = try Store.open(at: bench.path("store")).restore("\(step)", to: place)
            #expect(
                try Data(contentsOf: URL(fileURLWithPath: place + "/model.safetensors"))
                    == Data(
                        contentsOf: URL(
                            fileURLWithPath: bench.path("out/checkpoint-\(step)/model.safetensors"))))
        }
    }

    private func heal() throws {
        let store = try Store.open(at: bench.path("store"), repairing: true)
        #expect(try store.repair(from: [bench.path("out")]).ok)
        let after = try Store.open(at: bench.path("store")).verify()
        #expect(after.ok, "\(after.problems) \(after.damaged)")
        for step in 1...3 { #expect(restores(step) == nil) }
    }

    @Test func aDamagedChunkOfOneTensorIsNamedAndHealed() throws {
        let pack = try firstPack()
        let bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: pack)))
        // The frozen tensor's second chunk lies somewhere in the pack as it is.
        let needle = Array(frozen[4096..<4160])
        let place = try #require(bytes.indices.first { bytes[$0...].starts(with: needle) })
        try bench.flip(pack, place + 7)
        let report = try bench.store.verify()
        #expect(report.damaged.map(\.step) == [1, 2, 3])
        #expect(report.damaged.allSatisfy { $0.tensors == ["frozen"] && $0.files == ["model.safetensors"] })
        for step in 1...3 { #expect(restores(step) == .damage) }
        try heal()
    }

    @Test(arguments: Place.allCases)
    func aFlippedBitInAPackIsFoundAndHealed(place: Place) throws {
        let pack = try firstPack()
        let size = try FileManager.default.attributesOfItem(atPath: pack)[.size] as! Int
        let bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: pack)))
        let table = bytes[(size - 56)...].prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
        switch place {
        case .packHeader: try bench.flip(pack, 20)
        case .recordHeader: try bench.flip(pack, 64 + 9)
        case .payload: try bench.flip(pack, 64 + 96 + 100)
        case .table: try bench.flip(pack, table + 30)
        case .trailer: try bench.flip(pack, size - 30)
        }
        let report = try Store.open(at: bench.path("store")).verify()
        #expect(!report.ok)
        #expect(report.damaged.contains { $0.step == 1 }, "\(report)")
        try heal()
    }

    /// Every record says itself what it is: the frame of a pack is made anew from them, around what a collection has freed.
    @Test(arguments: [Place.packHeader, .table, .trailer])
    func theFrameOfAPackHealsWithoutACopy(place: Place) throws {
        _ = try bench.store.delete(["1"])
        _ = try bench.store.collect(dryRun: false)
        let pack = try firstPack()
        let bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: pack)))
        let table = bytes[(bytes.count - 56)...].prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
        let offset = place == .packHeader ? 20 : place == .table ? table + 30 : bytes.count - 30
        try bench.flip(pack, offset)
        #expect(try !Store.open(at: bench.path("store")).verify().ok)
        try FileManager.default.removeItem(atPath: bench.path("store/index/data.mdb"))
        #expect(try Store.open(at: bench.path("store"), repairing: true).repair().ok)
        #expect(try Store.open(at: bench.path("store")).verify().ok)
        for step in 2...3 { #expect(restores(step) == nil) }
    }

    @Test(arguments: [0, 1, 2, 3])
    func aDamagedJournalRecordIsNamedAndHealedFromTheIndex(record: Int) throws {
        try bench.flip(bench.path("store/journal"), record * 4096 + 115)
        let report = try bench.store.verify()
        #expect(!report.problems.isEmpty)
        #expect(report.damaged.map(\.step) == (record == 0 ? [] : [UInt64(record)]))
        try heal()
    }

    /// Flips a bit in the pack of the newest save, in the bytes behind `needle`.
    private func damageNewest(_ needle: String) throws {
        for pack in try packs() {
            let bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: pack)))
            let find = { (text: String) in
                bytes.indices.first { bytes[$0...].starts(with: [UInt8](text.utf8)) }
            }
            guard find("step 3") != nil else { continue }
            try bench.flip(pack, try #require(find(needle)) + 5)
        }
    }

    @Test func aPolicyCountsOnNothingThatIsKnownToBeDamaged() throws {
        try damageNewest("step 3")
        try bench.store.setPolicy(Policy(keepLast: 1), run: "main")
        #expect(try bench.store.verify().damaged.map(\.step) == [3])
        #expect(try bench.store.collect(dryRun: true).deletedIterations.map(\.step) == [1])
        #expect(try bench.store.collect(dryRun: false).deletedIterations.map(\.step) == [1])
        #expect(restores(2) == nil)
        #expect(bench.code { _ = try bench.store.delete(["2"]) } == .protected)
        #expect(try bench.store.delete(["3"]).deleted.map(\.step) == [3])
        #expect(try bench.store.verify().ok)
    }

    @Test func aPolicyCountsOnNoManifestThatCannotBeRead() throws {
        // By its place: its bytes may be encoded, as they differ with the times of the files.
        let roots = try bench.store.manifest(of: bench.store.resolve("3")).manifest.head.roots
        let place = try #require(try bench.store.chunks.locate([roots.id])[0])
        try bench.flip(
            bench.path("store/packs/\(place.pack.fileName)"),
            Int(place.location.offset) + PackFormat.recordHeaderSize + 5)
        try bench.store.setPolicy(Policy(keepLast: 1), run: "main")
        #expect(bench.code { _ = try bench.store.collect(dryRun: false) } == .damage)
        #expect(restores(2) == nil)
    }

    @Test func savingADamagedIterationAgainHealsIt() throws {
        try damageNewest("step 3")
        #expect(try bench.store.verify().damaged.map(\.step) == [3])
        let again = try bench.store.save(bench.path("out/checkpoint-3"))
        #expect(again.unchanged)
        let report = try bench.store.verify()
        #expect(report.ok, "\(report.problems) \(report.damaged)")
        #expect(restores(3) == nil)
    }

    @Test func aPackThatIsMissingMayComeBackAfterARepair() throws {
        // Step 1 is the only one whose manifest lies there; the others need its chunks.
        _ = try bench.store.delete(["1"])
        let pack = try firstPack()
        try FileManager.default.moveItem(atPath: pack, toPath: bench.path("pack"))
        let repaired = try Store.open(at: bench.path("store"), repairing: true).repair()
        #expect(repaired.damaged.map(\.step) == [2, 3])
        // Whatever happens in between, the pack is not forgotten.
        try bench.store.save(try bench.write("out/checkpoint-4", ["a.bin": [4]]))
        #expect(bench.code { _ = try bench.store.collect(dryRun: false) } == .damage)
        try FileManager.default.moveItem(atPath: bench.path("pack"), toPath: pack)
        try bench.store.save(try bench.write("out/checkpoint-5", ["a.bin": [5]]))
        #expect(try Store.open(at: bench.path("store"), repairing: true).repair().ok)
        for step in 2...3 { #expect(restores(step) == nil) }
    }

    @Test func aPackThatIsMissingGoesWithWhatNeedsIt() throws {
        try FileManager.default.removeItem(atPath: try firstPack())
        #expect(try !Store.open(at: bench.path("store"), repairing: true).repair().ok)
        try bench.store.save(try bench.write("out/checkpoint-4", ["a.bin": [4]]))
        #expect(try bench.store.deleteDamaged().deleted.map(\.step) == [1, 2, 3])
        _ = try bench.store.collect(dryRun: false)
        #expect(try bench.store.verify().ok)
        #expect(try bench.store.iterations().map(\.step) == [4])
    }

    /// Only the last record is ever taken back, after a commit that failed; without those before it, the journal was cut.
    @Test(arguments: [0, 1, 4096, 5000, 8192, 12_287])
    func aJournalThatWasCutIsNamedAndHealedFromTheIndex(size: UInt64) throws {
        let journal = try #require(FileHandle(forWritingAtPath: bench.path("store/journal")))
        try journal.truncate(atOffset: size)
        try journal.close()
        #expect(try Store.open(at: bench.path("store")).iterations().map(\.step) == [1, 2, 3])
        let report = try Store.open(at: bench.path("store"), repairing: true).verify()
        #expect(!report.problems.isEmpty && report.damaged.map(\.step).contains(3))
        let packs = try packs()
        #expect(
            bench.code { _ = try Store.open(at: bench.path("store")).collect(dryRun: false) } == .damage)
        #expect(
            bench.code { _ = try Store.open(at: bench.path("store")).pin("1", name: "gold") } == .damage)
        #expect(try self.packs().sorted() == packs.sorted())
        try heal()
    }

    @Test func anOlderIndexIsBroughtUpToDateAndBringsNothingBack() throws {
        let index = bench.path("store/index/data.mdb")
        try FileManager.default.copyItem(atPath: index, toPath: bench.path("old.mdb"))
        _ = try bench.store.delete(["1"])
        _ = try bench.store.collect(dryRun: false)
        _ = try bench.store.pin("2", name: "gold")
        try FileManager.default.removeItem(atPath: index)
        try FileManager.default.copyItem(atPath: bench.path("old.mdb"), toPath: index)
        let again = try Store.open(at: bench.path("store"))
        #expect(try again.iterations().map(\.step) == [2, 3])
        #expect(try again.pins().map(\.name) == ["gold"])
        #expect(try again.verify().ok)
        // What was swept must be written again, not believed to be there.
        try again.save(bench.path("out/checkpoint-1"))
        #expect(try again.verify().ok)
    }

    /// Damages what only the third iteration has, and lets a check find it.
    private func damageTheNewest() throws {
        let head = try [UInt8](
            Data(contentsOf: URL(fileURLWithPath: bench.path("out/checkpoint-3/model.safetensors"))))
        // Not at the file's end, where the frozen tensor lies; and behind its header.
        let needle = head[1000..<1064]
        for pack in try packs() {
            let bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: pack)))
            guard let place = bytes.indices.first(where: { bytes[$0...].starts(with: needle) }) else {
                continue
            }
            try bench.flip(pack, place)
        }
        #expect(try bench.store.verify().damaged.map(\.step) == [3])
    }

    @Test func aDamagedIterationIsNotTheNewestThatEveryPolicyKeeps() throws {
        try damageTheNewest()
        try bench.store.setPolicy(Policy(keepLast: 1, maxSize: 1), run: "main")
        let planned = try bench.store.collect(dryRun: true)
        let done = try bench.store.collect(dryRun: false)
        #expect(done.deletedIterations.map(\.step) == [1, 3])
        #expect(planned.deletedIterations == done.deletedIterations)
        #expect(restores(2) == nil)
    }

    @Test func aDamagedIterationTakesNoPlaceFromAWholeOne() throws {
        try damageTheNewest()
        try bench.store.setPolicy(Policy(keepLast: 1), run: "main")
        #expect(try bench.store.collect(dryRun: false).deletedIterations.map(\.step) == [1])
        #expect(bench.code { _ = try bench.store.delete(["2"]) } == .protected)
        #expect(try bench.store.delete(["3"]).deleted.map(\.step) == [3])
        #expect(restores(2) == nil)
    }

    /// What a check found damaged is written again by the next save that holds the same bytes, without being asked.
    @Test func aSaveHealsWhatACheckFound() throws {
        let packs = try packs()
        let needle = frozen[4096..<4160]
        for pack in packs {
            let bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: pack)))
            guard let place = bytes.indices.first(where: { bytes[$0...].starts(with: needle) }) else {
                continue
            }
            try bench.flip(pack, place)
        }
        #expect(try bench.store.verify().damaged.map(\.step) == [1, 2, 3])
        let again = try bench.write(
            "out/checkpoint-4", ["model.safetensors": Workbench.safetensors([("frozen", frozen)])])
        #expect(try bench.store.save(again).newBytes == 4096)
        #expect(try Store.open(at: bench.path("store")).verify().ok)
        for step in 1...3 { #expect(restores(step) == nil) }
    }

    @Test func whatIsWholeIsRestoredOnRequest() throws {
        try damageTheNewest()
        let place = bench.path("to")
        let result = try bench.store.restore("3", to: place, options: RestoreOptions(skipDamaged: true))
        #expect(result.damagedFiles == ["model.safetensors"] && result.files == 1)
        #expect(try FileManager.default.contentsOfDirectory(atPath: place) == ["notes.txt"])
    }

    @Test func aLostIndexFolderIsMadeAnew() throws {
        _ = try bench.store.pin("2", name: "gold")
        try FileManager.default.removeItem(atPath: bench.path("store/index"))
        let again = try Store.open(at: bench.path("store"))
        #expect(try again.iterations().map(\.step) == [1, 2, 3] && again.pins().map(\.name) == ["gold"])
        #expect(try again.verify().ok)
        try FileManager.default.removeItem(atPath: bench.path("store/index"))
        #expect(try Store.open(at: bench.path("store"), repairing: true).repair().ok)
    }

    @Test func damagedIterationsCanBeGivenUp() throws {
        let pack = try firstPack()
        try bench.flip(pack, 64 + 96 + 100)
        let deleted = try bench.store.deleteDamaged().deleted
        #expect(deleted.contains { $0.step == 1 })
        _ = try bench.store.collect(dryRun: false)
        #expect(try bench.store.verify().ok)
    }
}
