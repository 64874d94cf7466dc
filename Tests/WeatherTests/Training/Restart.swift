import Foundation
import Glibc

/// A training that is to go on from step 2, in the layout of a framework, after something happened to its folder.
struct Restart: Sendable, CustomStringConvertible {
    enum Framework: String, Sendable, CaseIterable {
        /// A folder for each step.
        case trainer
        /// And a pointer to one of them.
        case mindformers
        /// A folder for each rank, with files of several steps.
        case mindformers1
    }

    enum State: String, Sendable, CaseIterable {
        /// The folder is gone.
        case lost
        /// It has step 1 alone.
        case behind
        /// Step 2 is cut off in it.
        case cut
        /// A file of step 2 has another byte in it, and its size and time as before.
        case rotten
        /// Step 3 is being written in it, and the store has only step 1.
        case ahead
    }

    var framework: Framework
    var state: State

    static let all = Framework.allCases.flatMap { framework in
        State.allCases.map { Restart(framework: framework, state: $0) }
    }

    /// A file of step 2 is not what it was.
    private var isBroken: Bool { state == .cut || state == .rotten }

    var description: String { "\(framework.rawValue), \(state.rawValue)" }

    static let ranks = 3

    // MARK: Files

    private static func model(_ step: Int) -> [UInt8] { Training.files(step, content: step)[1].bytes }

    /// The files of a step, below the output folder.
    func files(_ step: Int) -> [String: [UInt8]] {
        switch framework {
        case .trainer:
            let files = Training.files(step, content: step).map {
                ("checkpoint-\(step)/\($0.name)", $0.bytes)
            }
            return Dictionary(uniqueKeysWithValues: files)
        case .mindformers:
            let state =
                "{\"epoch_num\": 1, \"step_num\": \(step), \"global_step\": \(step), \"loss_scale\": null, "
                + "\"global_batch_size\": 1, \"ckpt_status\": null}"
            return [
                "iteration_0000000\(step)/m-model-0000000-0000001.safetensors": Self.model(step),
                "iteration_0000000\(step)/common.json": [UInt8](state.utf8),
            ]
        case .mindformers1:
            let files = (0..<Self.ranks).map {
                ("rank_\($0)/" + Self.name($0, step), Self.model(step + 100 * $0))
            }
            return Dictionary(uniqueKeysWithValues: files)
        }
    }

    private static func name(_ rank: Int, _ step: Int) -> String { "m_rank_\(rank)-1_\(step).safetensors" }

    /// What says that a step is the newest one.
    func pointers(_ step: Int) -> [String: [UInt8]] {
        switch framework {
        case .trainer: [:]
        case .mindformers: ["latest_checkpointed_iteration.txt": [UInt8]("\(step)".utf8)]
        case .mindformers1:
            Dictionary(
                uniqueKeysWithValues: (0..<Self.ranks).map { rank in
                    let text =
                        "{\"last_epoch\": 1, \"last_step\": \(step), \"last_ckpt_file\": \"\(Self.name(rank, step))\"}"
                    return ("rank_\(rank)/meta.json", [UInt8](text.utf8))
                })
        }
    }

    /// One that a step can't do without.
    private func victim(_ step: Int) -> String {
        switch framework {
        case .trainer: "checkpoint-\(step)/model.safetensors"
        case .mindformers: "iteration_0000000\(step)/m-model-0000000-0000001.safetensors"
        case .mindformers1: "rank_1/" + Self.name(1, step)
        }
    }

    /// What is printed where the training goes on from step 2.
    func printed(_ training: Training) -> String {
        switch framework {
        case .trainer: training.path("checkpoint-2") + "\n"
        case .mindformers: training.path("iteration_00000002") + "\n"
        case .mindformers1: training.out + "\n"
        }
    }

    // MARK: What happened

    func make() throws -> Training {
        let training = try Training()
        func write(_ files: [String: [UInt8]]) throws {
            for (name, bytes) in files { try training.write(bytes, name) }
        }
        let steps = state == .ahead ? [1] : [1, 2]
        for step in steps { try write(files(step).merging(pointers(step)) { $1 }) }
        try training.cairn(["save", training.out, "--all", "--run", "r"]).mustSucceed("the first saves")
        switch state {
        case .lost: try training.remove("")
        case .behind, .cut:
            for name in files(2).keys where state == .behind || name == victim(2) {
                try training.remove(name)
            }
            for folder in ["checkpoint-2", "iteration_00000002"] where state == .behind {
                _ = try? FileManager.default.removeItem(atPath: training.path(folder))
            }
            if state == .cut { try training.write([1, 2, 3], victim(2)) }
            try write(pointers(1))
        case .rotten:
            try Self.rot(training.path(victim(2)))
            try write(pointers(1))
        case .ahead:
            try write(files(2).merging(pointers(2)) { $1 })
            try write(files(3).filter { $0.key != victim(3) })
        }
        return training
    }

    /// Changes a file's last byte as a failing disk does.
    private static func rot(_ path: String) throws {
        var status = stat()
        guard stat(path, &status) == 0 else { throw Trouble("\(path) is not there") }
        var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        bytes[bytes.count - 1] ^= 1
        try bytes.write(to: URL(fileURLWithPath: path))
        let times = [status.st_atim, status.st_mtim]
        guard utimensat(AT_FDCWD, path, times, 0) == 0 else { throw Trouble("\(path) keeps its time") }
    }

    func command(_ training: Training) -> [String] { ["resume", training.out, "--run", "r"] }

    // MARK: What must hold

    /// Everything of step 2 is there, and named.
    func checkWhole(_ training: Training) throws {
        for (name, bytes) in files(2).merging(pointers(2), uniquingKeysWith: { $1 }) {
            let found = FileManager.default.contents(atPath: training.path(name))
            try require(found == Data(bytes), "\(name) is not what it was")
        }
        let left = try training.names().filter { $0.hasPrefix(".cairn-") && $0 != ".cairn-set-aside-0" }
        try require(left.isEmpty, "left \(left)")
        guard isBroken || state == .ahead else { return }
        // Of a folder all of it, of files those that were there.
        let moved = files(isBroken ? 2 : 3).keys.filter {
            framework != .mindformers1 || ($0 == victim(isBroken ? 2 : 3)) == isBroken
        }
        for name in Set(moved.map { framework == .mindformers1 ? $0 : String($0.split(separator: "/")[0]) }) {
            try require(
                FileManager.default.fileExists(atPath: training.path(".cairn-set-aside-0/\(name)")),
                "\(name) was in the way, and is lost")
        }
    }

    /// Whatever a framework finds is what somebody wrote, and what it is pointed to is whole.
    func checkVisible(_ training: Training) throws {
        guard FileManager.default.fileExists(atPath: training.out) else { return }
        func has(_ step: Int, _ file: String) -> Bool {
            FileManager.default.contents(atPath: training.path(file)) == files(step)[file].map { Data($0) }
        }
        func isWhole(_ step: Int) -> Bool { files(step).keys.allSatisfy { has(step, $0) } }
        switch framework {
        case .trainer, .mindformers:
            for step in 1...3 {
                let folder = files(step).keys.first!.split(separator: "/")[0]
                guard FileManager.default.fileExists(atPath: training.path(String(folder))) else { continue }
                let isAsBefore = step == 3 || isBroken && step == 2 && !has(2, victim(2))
                try require(isWhole(step) || isAsBefore, "half of \(folder) is there")
            }
            let pointer = FileManager.default.contents(
                atPath: training.path("latest_checkpointed_iteration.txt"))
            guard framework == .mindformers, let pointer else { return }
            let step = Int(String(decoding: pointer, as: UTF8.self))
            try require(step.map(isWhole) == true, "the pointer says \(step ?? -1), which is not whole")
        case .mindformers1:
            let said = (0..<Self.ranks).compactMap { rank in
                let bytes = FileManager.default.contents(atPath: training.path("rank_\(rank)/meta.json"))
                return (1...3).first { Data(pointers($0)["rank_\(rank)/meta.json"]!) == bytes }
            }
            guard let least = said.min() else { return }
            let exist = { (step: Int) in
                files(step).keys.allSatisfy {
                    FileManager.default.fileExists(atPath: training.path($0))
                }
            }
            let taken = (1...least).last(where: exist)
            try require(taken.map(isWhole) == true, "the ranks say \(said), and \(taken ?? -1) is not whole")
        }
    }
}
