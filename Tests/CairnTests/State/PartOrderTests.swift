import ChunkStore
import Foundation
import Testing

@testable import Cairn

/// Parts of several saves of one step, in whatever order they come.
@Suite struct PartOrderTests {
    let bench: Workbench
    init() throws { bench = try Workbench() }

    /// Saves a rank's part of step 5, which says of which save it is.
    @discardableResult
    private func save(
        _ rank: Int, _ save: Int, attempt: String = "a", turn: Int = 0, content: UInt64? = nil
    ) throws -> SaveResult {
        let memory = StateSaveTests.Memory()
        memory.add("w", [20], seed: (content ?? UInt64(save)) * 2 + UInt64(rank))
        var options = StateSaveOptions(step: 5)
        options.part = StatePart(rank: rank, worldSize: 2, attempt: attempt, turn: turn)
        options.replace = turn > 0
        options.metrics = ["rank \(rank)": Double(save)]
        let session = try bench.store.beginSave(options)
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
