import ChunkStore
import Foundation
import Platform
import Testing

@testable import Cairn

/// Parts of several saves of one step, in whatever order they come.
@Suite struct PartOrderTests {
    let bench: Workbench
    init() throws { bench = try Workbench() }

    /// Saves a rank's part of a step, which says of which save it is.
    @discardableResult
    private func save(
        _ rank: Int, _ save: Int, attempt: String = "a", turn: Int = 0, content: UInt64? = nil,
        step: UInt64 = 5,
        in store: Store? = nil
    ) throws -> SaveResult {
        let memory = StateSaveTests.Memory()
        memory.add("w", [20], seed: (content ?? UInt64(save)) * 2 + UInt64(rank))
        var options = StateSaveOptions(step: step)
        options.part = StatePart(rank: rank, worldSize: 2, attempt: attempt, turn: turn)
        options.replace = turn > 0
        options.metrics = ["rank \(rank)": Double(save)]
        let session = try (store ?? bench.store).beginSave(options)
        try session.add(
            .init(
                file: "\(rank)/model.safetensors", name: "w", dtype: "F32", shape: [20],
                bytes: UnsafeRawBufferPointer(memory.tensors[0].bytes)))
        return try session.commit()
    }

    /// Which saves the ranks' parts are of that the iteration was made from.
    private var found: [Double]? {
        get throws {
            try bench.store.iterations().first.map { info in (0..<2).map { info.metrics["rank \($0)"] ?? -1 }
            }
        }
    }

    private var partCount: Int {
        get throws {
            let store = bench.store
            return try store.chunks.read { try $0.catalog(store: store.chunks.id) }
                .count { PartRun.isPart($0.run) }
        }
    }

    @Test(arguments: [1, 2] as [UInt64], [[0, 1], [1, 0]])
    func `what a launch that crashed has left stays out of the next one's iteration, which appears`(
        content: UInt64, order: [Int]
    ) throws {
        try save(0, 1, attempt: "a", content: 1)
        #expect(try save(order[0], 2, attempt: "b", content: content).isPart)
        #expect(try found == nil)
        #expect(try !save(order[1], 2, attempt: "b", content: content).isPart)
        #expect(try found == [2, 2] && partCount == 0)
    }

    @Test(arguments: [[0, 1], [1, 0]])
    func `a step that was refused is replaced by the next save, and by nothing of the last`(order: [Int])
        throws
    {
        for rank in 0..<2 { try save(rank, 1) }
        try save(0, 2, attempt: "b")
        #expect(bench.code { try save(1, 2, attempt: "b") } == .exists)
        #expect(try partCount == 0)
        #expect(try save(order[0], 3, attempt: "b", turn: 1).isPart)
        #expect(try found == [1, 1])
        #expect(try !save(order[1], 3, attempt: "b", turn: 1).isPart)
        #expect(try found == [3, 3] && partCount == 0)
    }

    @Test func `a rank that is a save ahead gets no part of the last one, and its own appears`() throws {
        try save(0, 1)
        try save(0, 2, turn: 1)
        let late = try save(1, 1)
        #expect(late.isPart && late.warnings.count == 1)
        #expect(try found == nil)
        let last = try save(1, 2, turn: 1)
        #expect(!last.isPart && last.warnings.isEmpty)
        #expect(try found == [2, 2] && partCount == 0)
    }

    @Test func `other content has to be said to be another save, until the first is there`() throws {
        try save(0, 1)
        #expect(bench.code { try save(0, 2) } == .exists)
        try save(0, 2, content: 1)
        try save(1, 2)
        #expect(try found == [2, 2])
        // Of that nothing waits any more.
        #expect(try save(0, 3).isPart)
        #expect(bench.code { try save(1, 3) } == .exists)
    }

    @Test(arguments: [false, true])
    func `a save waits for those who look at what it replaces`(isWhole: Bool) throws {
        try save(0, 1, attempt: "a")
        if isWhole { try save(1, 1, attempt: "a") }
        let run = isWhole ? "main" : PartRun("main", rank: 0, of: 2).name
        let info = try #require(try bench.store.iteration(run: run, step: 5))
        let store = bench.store
        let (isHeld, isFree) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        Thread.detachNewThread {
            let held = try? store.manifest(of: info)
            isHeld.signal()
            Thread.sleep(forTimeInterval: 0.05)
            withExtendedLifetime(held) {}
            isFree.signal()
        }
        isHeld.wait()
        try save(0, 2, attempt: "b", turn: 1)
        if !isWhole { isFree.wait() }
        try save(1, 2, attempt: "b", turn: 1)
        if isWhole { isFree.wait() }
        #expect(try found == [2, 2])
    }

    @Test func `other content is told from the first also after other steps, and through another opening`()
        throws
    {
        try save(0, 1)
        try save(0, 2, step: 6)
        #expect(bench.code { try save(0, 3) } == .exists)
        let other = try Store.open(at: bench.path("store"))
        #expect(bench.code { try save(0, 3, in: other) } == .exists)
        try save(1, 1)
        #expect(try found == [1, 1])
    }

    @Test func `what is remembered of parts is no more than what waits`() throws {
        func count() -> Int? { Store.ownParts.change { $0[bench.store.chunks.id]?.count } }
        for step: UInt64 in 1...4 { for rank in 0..<2 { try save(rank, 1, step: step) } }
        // Each rank's last one, which is found to be gone by the next.
        #expect(count() == 2)
        for step: UInt64 in 5...7 { try save(0, 1, step: step) }
        #expect(count() == 4)
        try save(1, 1, step: 7)
        try save(0, 1, step: 8)
        #expect(count() == 2)
    }

    @Test func `a training that goes back leaves no parts of the steps that it comes by once more`() throws {
        for step: UInt64 in [3, 4] { for rank in 0..<2 { try save(rank, 1, step: step) } }
        try save(0, 1)
        _ = try bench.store.rewind(to: "3")
        #expect(try partCount == 0)
        #expect(try save(1, 2).isPart)
        // The other processes say so as well, maybe when the first one has gone on.
        Store.ownParts.change { $0[bench.store.chunks.id] = nil }
        _ = try bench.store.rewind(to: "3")
        #expect(try !save(0, 2).isPart)
        #expect(try bench.store.resolve("5").metrics == ["rank 0": 2, "rank 1": 2])
    }

    @Test func `a rank that goes back takes its own parts away though no iteration was there yet`() throws {
        for rank in 0..<2 { try save(rank, 1, step: 3) }
        try save(0, 1)
        _ = try bench.store.rewind(to: "3")
        #expect(try save(1, 2).isPart)
        #expect(try !save(0, 2).isPart)
        #expect(try bench.store.resolve("5").metrics == ["rank 0": 2, "rank 1": 2])
    }

    @Test func `what was replaced is named by the rank that completes it, and no parts are`() throws {
        for rank in 0..<2 { try save(rank, 1) }
        let whole = try bench.store.resolve("5").id.hex
        #expect(try save(0, 2, turn: 1).replaced == nil)
        #expect(try save(0, 2, turn: 1).replaced == nil)
        #expect(try save(1, 2, turn: 1).replaced == whole)
    }

    @Test func `who reads what is replaced for long keeps it, and the rank can try again`() throws {
        for rank in 0..<2 { try save(rank, 1) }
        do {
            let held = try bench.store.manifest(of: try bench.store.resolve("5"))
            try save(0, 2, turn: 1)
            let start = Clock.monotonic
            #expect(bench.code { try save(1, 2, turn: 1) } == .busy)
            #expect(Clock.monotonic - start < 20)
            withExtendedLifetime(held) {}
        }
        #expect(try !save(1, 2, turn: 1).isPart)
        #expect(try found == [2, 2])
    }

    @Test func `a rank that waits for a reader keeps no other from its next save`() throws {
        for rank in 0..<2 { try save(rank, 1) }
        let held = try bench.store.manifest(of: try bench.store.resolve("5"))
        try save(0, 2, turn: 1)
        let store = bench.store
        let ended = DispatchSemaphore(value: 0)
        let late = Monitor<SaveResult?>(nil)
        Thread.detachNewThread { [self] in
            let result = try? save(1, 2, turn: 1, in: store)
            late.change { $0 = result }
            ended.signal()
        }
        while try partCount < 2 { Thread.sleep(forTimeInterval: 0.001) }
        try save(0, 3, turn: 2)
        ended.wait()
        // There is nothing to wait for any more.
        #expect(late.change { $0?.isPart } == true)
        withExtendedLifetime(held) {}
        #expect(try found == [1, 1])
    }

    @Test func `who waits tries seldom`() throws {
        var count = 0
        let busy = bench.code {
            try bench.store.waiting(0.3, Progress.silent) {
                count += 1
                throw CairnError(.busy, "")
            }
        }
        #expect(busy == .busy && (2...9).contains(count))
    }

    @Test func `a part waits for others though its rank saves something else as well`() throws {
        try save(0, 1)
        let save = try bench.store.beginSave(StateSaveOptions(run: "main", step: 6))
        try save.add(file: "notes.txt", UnsafeRawBufferPointer(start: nil, count: 0))
        _ = try save.commit()
        _ = try bench.store.collect(dryRun: false)
        #expect(try !self.save(1, 1).isPart)
        #expect(try found == [1, 1])
    }

    /// Launches one after the other, each of which saves the step several times, its ranks in any order; all but the last are killed.
    @Test(arguments: 1...6 as ClosedRange<UInt64>)
    func `whatever the order, an iteration is of one save, and what all ranks saved last is there`(
        seed: UInt64
    ) throws {
        var random = SeededGenerator(seed: seed)
        var number = 0
        for attempt in ["a", "b", "c", "d"] {
            let first = number + 1
            number += Int.random(in: 1...3, using: &random)
            let contents = (0...number).map { _ in UInt64.random(in: 0...1, using: &random) }
            var next = [first, first]
            while let rank = (0..<2).filter({ next[$0] <= number }).randomElement(using: &random) {
                if attempt != "d", Int.random(in: 0..<6, using: &random) == 0 { break }
                let save = next[rank]
                try self.save(rank, save, attempt: attempt, turn: save - first + 1, content: contents[save])
                next[rank] += 1
                let now = try found
                #expect(now == nil || now![0] == now![1], "\(seed)")
                if next[0] == next[1] { #expect(now == [Double(save), Double(save)], "\(seed)") }
            }
        }
        #expect(try partCount == 0 && bench.store.verify().ok)
    }
}
