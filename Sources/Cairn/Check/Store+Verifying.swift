internal import ChunkStore
internal import Platform

extension Store {
    /// Checks that everything can be read back: journal, index, tables and, unless `quick`, every byte of every chunk.
    ///
    /// Chunks that are found damaged are marked, so that the next save that holds the same bytes writes them again.
    /// - Parameter references: only these iterations; all where there are none.
    public func verify(
        _ references: [String] = [], quick: Bool = false, progress: Progress = .silent
    ) throws -> VerifyReport {
        let start = Clock.monotonic
        defer { progress.end() }
        let structure = try chunks.checkStructure()
        let infos = references.isEmpty ? try iterations() : try references.map { try resolve($0) }
        let survey = try survey(infos, quick: quick, progress: progress)
        var report = VerifyReport(quick: quick, iterations: infos.count, problems: structure.problems)
        report.chunks = survey.checkedChunks
        report.checkedBytes = survey.checkedBytes
        let touched = try chunks.chunks(in: structure.damagedPacks)
        for info in infos {
            if let damaged = try survey.damage(info, self) {
                report.damaged.append(damaged)
            } else if structure.damagedIterations.contains(info.number) {
                report.damaged.append(
                    .init(run: info.run, step: info.step, id: info.id.hex, tensors: [], files: []))
            } else if !touched.isEmpty {
                var frame = DamageSurvey()
                frame.chunks = touched
                if let damaged = try frame.damage(info, self) { report.damaged.append(damaged) }
            }
        }
        for (number, error) in survey.manifests.sorted(by: { $0.key < $1.key }) {
            guard let info = infos.first(where: { $0.number == number }) else { continue }
            report.problems.append("\(info.run)@\(info.step): \(error.message).")
        }
        if !survey.chunks.isEmpty { try chunks.markDamaged(survey.chunks) }
        report.seconds = Clock.monotonic - start
        return report
    }

    /// Forgets every iteration that can't be read whole, but for pinned ones.
    public func deleteDamaged() throws -> DeleteResult {
        let infos = try iterations()
        let survey = try survey(infos, quick: false, progress: .silent)
        let damaged = try infos.filter { try survey.damage($0, self) != nil }
        let numbers = Set(damaged.filter(\.pins.isEmpty).map(\.number))
        var result = try delete { scope in
            scope.iterations.filter { numbers.contains($0.number) && $0.pins.isEmpty }
        }
        result.skipped += damaged.filter { !$0.pins.isEmpty }.map {
            DeletedIteration($0, "pinned as \($0.pins[0])")
        }
        return result
    }
}
